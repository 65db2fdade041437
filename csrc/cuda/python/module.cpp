// The CUDA kernels for Python: any array on a CUDA device is taken without a copy, the results are DeviceArrays.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cuda/python/call.h"
#include "cuda/python/device_array.h"
#include "mixpriv/cuda.h"
#include "mixpriv/error.h"
#include "python/arguments.h"

#ifndef MIXPRIV_CUDA_ARCHITECTURES
#define MIXPRIV_CUDA_ARCHITECTURES ""
#endif

namespace py = pybind11;
using namespace mixpriv::cuda;
using mixpriv::ClassMaps;
using mixpriv::InputError;
using mixpriv::MixInput;
using mixpriv::Range;
using mixpriv::Shape3;
using mixpriv::Warp;
using mixpriv::python::matrix34;
using mixpriv::python::number;
using mixpriv::python::output_shape;
using mixpriv::python::range_of;
using mixpriv::python::sequence_of;
using mixpriv::python::whole_number;

namespace {

std::vector<int64_t> sizes(Shape3 shape) {
    return {shape.size[0], shape.size[1], shape.size[2]};
}

int64_t class_count(const Operand<const float>& probabilities) {
    const int64_t classes = probabilities.shape[0];
    if (classes > 255) throw InputError("probabilities: expected at most 255 classes, got " + std::to_string(classes));
    return classes;
}

using Floats = Operand<const float>;

// Whether two arrays share memory of the device.
template <class One, class Other>
bool overlap(const Operand<One>& one, const Operand<Other>& other) {
    const std::less<const void*> before;
    return before(one.data, other.data + other.count()) && before(other.data, one.data + one.count());
}

Warp control_of(Call& call, const char* name, const py::object& control, const py::object& knots) {
    const auto points = call.array<const float>(name, control, {{3, -1, -1, -1}});
    return {points.data, points.shape3(1), number("knots", knots)};
}

std::optional<Warp> warp_of(Call& call, const char* name, const py::object& warp) {
    if (warp.is_none()) return std::nullopt;
    const py::sequence pair = sequence_of(name, 2, "None or a pair (control, knots)", warp);
    return control_of(call, name, pair[0], pair[1]);
}

py::tuple py_robust_range(const py::object& image, const py::object& mask, const py::object& lower_percent,
                          const py::object& upper_percent, const py::object& stream) {
    Call call(stream);
    const auto x = call.array<const float>("image", image, {{}});
    const uint8_t* inside = mask.is_none() ? nullptr : call.array<const uint8_t>("mask", mask, {x.shape}).data;
    const double lower = number("lower_percent", lower_percent), upper = number("upper_percent", upper_percent);
    Range range{};
    call.run([&](cudaStream_t on) { range = robust_range(x.data, inside, x.count(), lower, upper, on); });
    return py::make_tuple(range.lo, range.hi);
}

DeviceArray py_mix(const py::object& target, const py::object& target_mask, const py::object& target_range,
                   const py::object& reference, const py::object& reference_mask, const py::object& weight,
                   const py::object& warp, const py::object& stream) {
    Call call(stream);
    const auto x = call.array<const float>("target", target, {{-1, -1, -1}});
    const auto x_mask = call.array<const uint8_t>("target_mask", target_mask, {x.shape});
    MixInput input{};
    input.target = x.data;
    input.target_mask = x_mask.data;
    input.target_range = range_of("target_range", target_range);
    if (!reference.is_none()) {
        const auto r = call.array<const float>("reference", reference, {x.shape});
        const auto r_mask = call.array<const uint8_t>("reference_mask", reference_mask, {x.shape});
        input.reference = r.data;
        input.reference_mask = r_mask.data;
    }
    input.weight = number("weight", weight);
    const auto bend = warp_of(call, "warp", warp);
    input.warp = bend ? &*bend : nullptr;
    const DeviceArray mixture = call.result<uint16_t>(x.shape);
    call.run([&](cudaStream_t on) { mix(input, static_cast<uint16_t*>(mixture.data()), x.shape3(), on); });
    return mixture;
}

py::object py_unpack(const py::object& answer, const py::object& reference_labels, const py::object& weight,
                     const py::object& out, const py::object& stream) {
    Call call(stream);
    const auto a = call.array<const uint8_t>("answer", answer, {{-1, -1, -1, -1}});
    const int64_t classes = a.shape[0] + 1;
    if (classes > 255) throw InputError("answer: expected at most 254 channels, got " + std::to_string(classes - 1));
    const Shape3 shape = a.shape3(1);
    const auto labels = call.array<const uint8_t>("reference_labels", reference_labels, {sizes(shape)});
    const double target_weight = number("weight", weight);
    const std::vector<int64_t> whole{2 * classes + 1, shape.size[0], shape.size[1], shape.size[2]};
    const py::object result = out.is_none() ? py::cast(call.result<float>(whole)) : out;
    const auto to = call.array<float>("out", result, {whole, true});
    if (overlap(to, a) || overlap(to, labels))
        throw InputError("out: expected an array apart from answer and reference_labels, got one that overlaps them");
    call.run([&](cudaStream_t on) { unpack(a.data, labels.data, target_weight, classes, shape.count(), to.data, on); });
    return result;
}

void py_accumulate(const py::object& total, const py::object& probabilities, const py::object& stream) {
    Call call(stream);
    const auto sum = call.array<float>("total", total, {{}, true});
    const auto p = call.array<const float>("probabilities", probabilities, {sum.shape});
    if (sum.data != p.data && overlap(sum, p))
        throw InputError(
            "probabilities: expected the total itself or an array apart from it, got one that overlaps it");
    call.run([&](cudaStream_t on) { accumulate(sum.data, p.data, sum.count(), on); });
}

DeviceArray py_argmax(const py::object& probabilities, const py::object& stream) {
    Call call(stream);
    const auto p = call.array<const float>("probabilities", probabilities, {{-1, -1, -1, -1}});
    const int64_t classes = class_count(p);
    const Shape3 shape = p.shape3(1);
    const DeviceArray labels = call.result<uint8_t>(sizes(shape));
    call.run(
        [&](cudaStream_t on) { argmax(p.data, classes, shape.count(), static_cast<uint8_t*>(labels.data()), on); });
    return labels;
}

DeviceArray py_resample(const py::object& image, const py::object& matrix, const py::object& shape,
                        const py::object& stream) {
    Call call(stream);
    const auto x = call.array<const float>("image", image, {{-1, -1, -1}, false, true});
    const mixpriv::Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    const DeviceArray result = call.result<float>(sizes(to));
    call.run([&](cudaStream_t on) { resample(x.data, x.view3(), m, to, static_cast<float*>(result.data()), on); });
    return result;
}

DeviceArray py_block_mean(const py::object& image, const py::object& factors, const py::object& stream) {
    Call call(stream);
    const auto x = call.array<const float>("image", image, {{-1, -1, -1}, false, true});
    const Shape3 factor = output_shape(factors, "factors");
    Shape3 to{};
    for (size_t a = 0; a < 3; ++a) {
        to.size[a] = x.shape[a] / factor.size[a];
        if (to.size[a] < 1)
            throw InputError("factors: expected at most the image's size, " + std::to_string(x.shape[a]) + ", got " +
                             std::to_string(factor.size[a]));
    }
    const DeviceArray result = call.result<float>(sizes(to));
    call.run([&](cudaStream_t on) { block_mean(x.data, x.view3(), factor, static_cast<float*>(result.data()), on); });
    return result;
}

DeviceArray py_restore_labels(const py::object& probabilities, const py::object& matrix, const py::object& shape,
                              const py::object& mask, const py::object& stream) {
    Call call(stream);
    const auto p = call.array<const float>("probabilities", probabilities, {{-1, -1, -1, -1}});
    ClassMaps input{p.data, nullptr, class_count(p), p.shape3(1)};
    const mixpriv::Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    if (!mask.is_none()) input.mask = call.array<const uint8_t>("mask", mask, {sizes(input.shape)}).data;
    const DeviceArray labels = call.result<uint8_t>(sizes(to));
    call.run([&](cudaStream_t on) { restore_labels(input, m, to, static_cast<uint8_t*>(labels.data()), on); });
    return labels;
}

DeviceArray py_warp(const py::object& channels, const py::object& control, const py::object& knots,
                    const py::object& fill_background, const py::object& stream) {
    Call call(stream);
    const auto x = call.array<const float>("channels", channels, {{-1, -1, -1, -1}});
    const Shape3 shape = x.shape3(1);
    const Warp by = control_of(call, "control", control, knots);
    const bool fill = py::bool_(fill_background);
    const DeviceArray result = call.result<float>(x.shape);
    call.run(
        [&](cudaStream_t on) { warp(x.data, x.shape[0], shape, by, fill, static_cast<float*>(result.data()), on); });
    return result;
}

DeviceArray py_warp_labels(const py::object& labels, const py::object& control, const py::object& knots,
                           const py::object& stream) {
    Call call(stream);
    const auto x = call.array<const uint8_t>("labels", labels, {{-1, -1, -1}});
    const Warp by = control_of(call, "control", control, knots);
    const DeviceArray result = call.result<uint8_t>(x.shape);
    call.run([&](cudaStream_t on) { warp_labels(x.data, x.shape3(), by, static_cast<uint8_t*>(result.data()), on); });
    return result;
}

// A name for each device; CudaError says why there is none.
std::vector<std::string> py_devices() {
    int count = 0;
    SAFE_CALL(cudaGetDeviceCount(&count));
    std::vector<std::string> names;
    for (int device = 0; device < count; ++device) {
        cudaDeviceProp properties{};
        SAFE_CALL(cudaGetDeviceProperties(&properties, device));
        names.emplace_back(properties.name);
    }
    return names;
}

int py_current_device() {
    int device = 0;
    SAFE_CALL(cudaGetDevice(&device));
    return device;
}

cudaStream_t stream_from(const py::object& stream) {
    return stream.is_none() ? nullptr : stream_of(whole_number("stream", stream));
}

DeviceArray py_to_device(const py::object& array, const py::object& device, const py::object& stream) {
    return copy_to_device(array, whole_number("device", device), stream_from(stream));
}

// A moment on a stream, to measure by.
class Moment {
  public:
    explicit Moment(const py::object& stream) {
        SAFE_CALL(cudaEventCreateWithFlags(&event_, 0));
        SAFE_CALL(cudaEventRecord(event_, stream_from(stream)));
    }
    ~Moment() { static_cast<void>(cudaEventDestroy(event_)); }
    Moment(const Moment&) = delete;
    Moment& operator=(const Moment&) = delete;

    double seconds_since(const Moment& before) const {
        float milliseconds = 0.0f;
        SAFE_CALL(cudaEventSynchronize(event_));
        SAFE_CALL(cudaEventElapsedTime(&milliseconds, before.event_, event_));
        return static_cast<double>(milliseconds) / 1000.0;
    }

  private:
    cudaEvent_t event_ = nullptr;
};

void py_synchronize(const py::object& stream) {
    const cudaStream_t on = stream_from(stream);
    const py::gil_scoped_release release;
    SAFE_CALL(cudaStreamSynchronize(on));
}

void translate_errors() {
    py::register_local_exception_translator([](std::exception_ptr error) {
        const py::module_ errors = py::module_::import("mixpriv.errors");
        try {
            if (error) std::rethrow_exception(error);
        } catch (const InputError& bad_input) {
            py::set_error(errors.attr("InputError"), bad_input.what());
        } catch (const CudaError& failure) {
            py::set_error(errors.attr("DeviceError"), failure.what());
        }
    });
}

}  // namespace

PYBIND11_MODULE(MIXPRIV_CUDA_MODULE, module) {
    using py::arg;
    module.doc() = "Kernels on CUDA devices; use them through mixpriv.kernels and mixpriv.cuda.";
    translate_errors();
    define_device_array(module);

    module.def("robust_range", py_robust_range, arg("image"), arg("mask"), arg("lower_percent"), arg("upper_percent"),
               arg("stream"));
    module.def("mix", py_mix, arg("target"), arg("target_mask"), arg("target_range"), arg("reference"),
               arg("reference_mask"), arg("weight"), arg("warp"), arg("stream"));
    module.def("unpack", py_unpack, arg("answer"), arg("reference_labels"), arg("weight"), arg("out"), arg("stream"));
    module.def("accumulate", py_accumulate, arg("total"), arg("probabilities"), arg("stream"));
    module.def("argmax", py_argmax, arg("probabilities"), arg("stream"));
    module.def("resample", py_resample, arg("image"), arg("matrix"), arg("shape"), arg("stream"));
    module.def("block_mean", py_block_mean, arg("image"), arg("factors"), arg("stream"));
    module.def("restore_labels", py_restore_labels, arg("probabilities"), arg("matrix"), arg("shape"), arg("mask"),
               arg("stream"));
    module.def("warp", py_warp, arg("channels"), arg("control"), arg("knots"), arg("fill_background"), arg("stream"));
    module.def("warp_labels", py_warp_labels, arg("labels"), arg("control"), arg("knots"), arg("stream"));

    module.def("to_device", py_to_device, arg("array"), arg("device"), arg("stream"));
    module.def(
        "copy", [](const DeviceArray& array, const py::object& stream) { return array.copy(stream_from(stream)); },
        arg("array"), arg("stream"));
    py::class_<Moment>(module, "Moment", "Now, on a stream: when all that was queued on it is done.",
                       py::module_local())
        .def(py::init<const py::object&>(), arg("stream"))
        .def("seconds_since", &Moment::seconds_since, arg("before"));
    module.def("synchronize", py_synchronize, arg("stream"));
    module.def("devices", py_devices);
    module.def("current_device", py_current_device);
    module.attr("architectures") = MIXPRIV_CUDA_ARCHITECTURES;
#ifdef MIXPRIV_CUDA_EMULATION
    module.attr("emulation") = true;
#else
    module.attr("emulation") = false;
#endif
}
