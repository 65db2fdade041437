// The CUDA kernels for Python: any array on a CUDA device is taken without a copy, the results are DeviceArrays.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

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
using mixpriv::InputError;
using mixpriv::Range;
using mixpriv::Shape3;
using namespace mixpriv::python;

namespace {

std::vector<int64_t> sizes(Shape3 shape) {
    return {shape.size[0], shape.size[1], shape.size[2]};
}

int64_t class_count(const Operand<const float>& probabilities) {
    const int64_t classes = probabilities.shape[0];
    if (classes > 255) throw InputError("probabilities: expected at most 255 classes, got " + std::to_string(classes));
    return classes;
}

Operand<const float> floats(Call& call, const char* name, const py::object& value, const std::vector<int64_t>& wanted) {
    auto found = call.array<float>(name, value, wanted);
    return {found.data, std::move(found.shape)};
}

Operand<const uint8_t> bytes(Call& call, const char* name, const py::object& value, const std::vector<int64_t>& wanted) {
    auto found = call.array<uint8_t>(name, value, wanted);
    return {found.data, std::move(found.shape)};
}

// A warp's control points must reach every voxel of the volume.
Control control_of(Call& call, const char* name, const py::object& control, const py::object& knots, Shape3 shape) {
    const Operand<const float> points = floats(call, name, control, {3, -1, -1, -1});
    const double distance = number("knots", knots);
    if (!(distance > 0.0 && distance < 1e30)) throw InputError("knots: expected a number above 0, got another");
    const Shape3 size = points.shape3(1);
    std::vector<int64_t> least{3};
    for (int a = 0; a < 3; ++a)
        least.push_back(static_cast<int64_t>(static_cast<double>(shape.size[a] - 1) / distance) + 4);
    for (size_t a = 1; a < 4; ++a)
        if (points.shape[a] < least[a])
            throw InputError(std::string(name) + ": expected at least " + shape_text(least) + " control points for a volume " +
                             shape_text(sizes(shape)) + ", got " + shape_text(points.shape));
    return {points.data, size, distance};
}

Control warp_of(Call& call, const char* name, const py::object& warp, Shape3 shape) {
    if (warp.is_none()) return {};
    const py::sequence pair = sequence_of(name, 2, "a pair of control points and knots, or None", warp);
    return control_of(call, name, pair[0], pair[1], shape);
}

py::tuple py_robust_range(const py::object& image, const py::object& mask, const py::object& lower_percent,
                          const py::object& upper_percent, const py::object& stream) {
    Call call(stream);
    const auto x = floats(call, "image", image, {});
    const uint8_t* inside = mask.is_none() ? nullptr : bytes(call, "mask", mask, x.shape).data;
    const double lower = number("lower_percent", lower_percent), upper = number("upper_percent", upper_percent);
    Range range{};
    call.run([&](cudaStream_t on) { range = robust_range(x.data, inside, x.count(), lower, upper, on); });
    return py::make_tuple(range.lo, range.hi);
}

DeviceArray py_mix(const py::object& target, const py::object& target_mask, const py::object& target_range,
                   const py::object& reference, const py::object& reference_mask, const py::object& weight,
                   const py::object& target_warp, const py::object& reference_warp, const py::object& stream) {
    Call call(stream);
    const auto x = floats(call, "target", target, {-1, -1, -1});
    Mixing input{};
    input.target = x.data;
    input.target_mask = bytes(call, "target_mask", target_mask, x.shape).data;
    input.target_range = range_of("target_range", target_range);
    if (!reference.is_none()) {
        input.reference = floats(call, "reference", reference, x.shape).data;
        input.reference_mask = bytes(call, "reference_mask", reference_mask, x.shape).data;
    }
    input.weight = number("weight", weight);
    input.target_warp = warp_of(call, "target_warp", target_warp, x.shape3());
    input.reference_warp = warp_of(call, "reference_warp", reference_warp, x.shape3());
    const DeviceArray mixture = call.result<uint16_t>(x.shape);
    call.run([&](cudaStream_t on) { mix(input, static_cast<uint16_t*>(mixture.data()), x.shape3(), on); });
    return mixture;
}

DeviceArray py_unpack(const py::object& answer, const py::object& reference_labels, const py::object& weight,
                      const py::object& stream) {
    Call call(stream);
    const auto a = bytes(call, "answer", answer, {-1, -1, -1, -1});
    const int64_t classes = a.shape[0] + 1;
    if (classes > 255) throw InputError("answer: expected at most 254 channels, got " + std::to_string(classes - 1));
    const Shape3 shape = a.shape3(1);
    const auto labels = bytes(call, "reference_labels", reference_labels, sizes(shape));
    const double target_weight = number("weight", weight);
    const DeviceArray result = call.result<float>({2 * classes + 1, shape.size[0], shape.size[1], shape.size[2]});
    call.run([&](cudaStream_t on) {
        unpack(a.data, labels.data, target_weight, classes, shape.count(), static_cast<float*>(result.data()), on);
    });
    return result;
}

void py_accumulate(const py::object& total, const py::object& probabilities, const py::object& stream) {
    Call call(stream);
    const auto sum = call.array<float>("total", total, {}, true);
    const auto p = floats(call, "probabilities", probabilities, sum.shape);
    call.run([&](cudaStream_t on) { accumulate(sum.data, p.data, sum.count(), on); });
}

DeviceArray py_argmax(const py::object& probabilities, const py::object& stream) {
    Call call(stream);
    const auto p = floats(call, "probabilities", probabilities, {-1, -1, -1, -1});
    const int64_t classes = class_count(p);
    const Shape3 shape = p.shape3(1);
    const DeviceArray labels = call.result<uint8_t>(sizes(shape));
    call.run([&](cudaStream_t on) { argmax(p.data, classes, shape.count(), static_cast<uint8_t*>(labels.data()), on); });
    return labels;
}

DeviceArray py_resample(const py::object& image, const py::object& matrix, const py::object& shape,
                        const py::object& intensity_range, const py::object& stream) {
    Call call(stream);
    const auto x = floats(call, "image", image, {-1, -1, -1});
    const mixpriv::Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    Range range{};
    if (!intensity_range.is_none()) range = range_of("intensity_range", intensity_range);
    const Range* normalise = intensity_range.is_none() ? nullptr : &range;
    const DeviceArray result = call.result<float>(sizes(to));
    call.run([&](cudaStream_t on) {
        resample(x.data, x.shape3(), m, to, normalise, static_cast<float*>(result.data()), on);
    });
    return result;
}

DeviceArray py_resample_labels(const py::object& labels, const py::object& matrix, const py::object& shape,
                               const py::object& stream) {
    Call call(stream);
    const auto x = bytes(call, "labels", labels, {-1, -1, -1});
    const mixpriv::Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    const DeviceArray result = call.result<uint8_t>(sizes(to));
    call.run([&](cudaStream_t on) {
        resample_labels(x.data, x.shape3(), m, to, static_cast<uint8_t*>(result.data()), on);
    });
    return result;
}

DeviceArray py_restore_labels(const py::object& probabilities, const py::object& matrix, const py::object& shape,
                              const py::object& last, const py::object& mask, const py::object& stream) {
    Call call(stream);
    const auto p = floats(call, "probabilities", probabilities, {-1, -1, -1, -1});
    Restoring input{p.data, nullptr, nullptr, class_count(p), p.shape3(1)};
    const mixpriv::Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    if (!last.is_none()) input.last = floats(call, "last", last, p.shape).data;
    if (!mask.is_none()) input.mask = bytes(call, "mask", mask, sizes(input.grid_shape)).data;
    const DeviceArray labels = call.result<uint8_t>(sizes(to));
    call.run([&](cudaStream_t on) { restore_labels(input, m, to, static_cast<uint8_t*>(labels.data()), on); });
    return labels;
}

DeviceArray py_warp(const py::object& channels, const py::object& control, const py::object& knots,
                    const py::object& fill_background, const py::object& stream) {
    Call call(stream);
    const auto x = floats(call, "channels", channels, {-1, -1, -1, -1});
    const Shape3 shape = x.shape3(1);
    const Control points = control_of(call, "control", control, knots, shape);
    const bool fill = py::bool_(fill_background);
    const DeviceArray result = call.result<float>(x.shape);
    call.run([&](cudaStream_t on) {
        warp(x.data, x.shape[0], shape, points, fill, static_cast<float*>(result.data()), on);
    });
    return result;
}

DeviceArray py_warp_labels(const py::object& labels, const py::object& control, const py::object& knots,
                           const py::object& stream) {
    Call call(stream);
    const auto x = bytes(call, "labels", labels, {-1, -1, -1});
    const Control points = control_of(call, "control", control, knots, x.shape3());
    const DeviceArray result = call.result<uint8_t>(x.shape);
    call.run([&](cudaStream_t on) { warp_labels(x.data, x.shape3(), points, static_cast<uint8_t*>(result.data()), on); });
    return result;
}

DeviceArray py_to_device(const py::object& array, const py::object& device, const py::object& stream) {
    const cudaStream_t on = stream.is_none() ? nullptr : stream_of(whole_number("stream", stream));
    return copy_to_device(array, whole_number("device", device), on);
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

void py_synchronize(const py::object& stream) {
    const cudaStream_t on = stream.is_none() ? nullptr : stream_of(whole_number("stream", stream));
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
               arg("reference_mask"), arg("weight"), arg("target_warp"), arg("reference_warp"), arg("stream"));
    module.def("unpack", py_unpack, arg("answer"), arg("reference_labels"), arg("weight"), arg("stream"));
    module.def("accumulate", py_accumulate, arg("total"), arg("probabilities"), arg("stream"));
    module.def("argmax", py_argmax, arg("probabilities"), arg("stream"));
    module.def("resample", py_resample, arg("image"), arg("matrix"), arg("shape"), arg("intensity_range"), arg("stream"));
    module.def("resample_labels", py_resample_labels, arg("labels"), arg("matrix"), arg("shape"), arg("stream"));
    module.def("restore_labels", py_restore_labels, arg("probabilities"), arg("matrix"), arg("shape"), arg("last"),
               arg("mask"), arg("stream"));
    module.def("warp", py_warp, arg("channels"), arg("control"), arg("knots"), arg("fill_background"), arg("stream"));
    module.def("warp_labels", py_warp_labels, arg("labels"), arg("control"), arg("knots"), arg("stream"));

    module.def("to_device", py_to_device, arg("array"), arg("device"), arg("stream"));
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
