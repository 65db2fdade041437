// The CPU kernels for Python: arrays are checked once, then the GIL is released.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "mixpriv/error.h"
#include "mixpriv/isa.h"
#include "mixpriv/kernels.h"
#include "python/arguments.h"

namespace py = pybind11;
using namespace mixpriv;
using namespace mixpriv::python;

namespace {

int thread_count(const py::handle& value) {
    return static_cast<int>(std::clamp<int64_t>(whole_number("threads", value), 1, 1 << 16));
}

py::tuple py_robust_range(const py::object& image, const py::object& mask, const py::object& lower_percent,
                          const py::object& upper_percent, const py::object& threads) {
    const auto x = checked<float>("image", image, {});
    const uint8_t* inside = mask.is_none() ? nullptr : checked<uint8_t>("mask", mask, shape_of(x)).data();
    const float* data = x.data();
    const int64_t count = x.size();
    const double lower = number("lower_percent", lower_percent), upper = number("upper_percent", upper_percent);
    const int workers = thread_count(threads);
    Range range{};
    without_gil([&] { range = robust_range(data, inside, count, lower, upper, workers); });
    return py::make_tuple(range.lo, range.hi);
}

py::array py_mix(const py::object& target, const py::object& target_mask, const py::object& target_range,
                 const py::object& reference, const py::object& reference_mask, const py::object& weight,
                 const py::object& threads) {
    const auto x = checked<float>("target", target, {-1, -1, -1});
    const auto shape = shape_of(x);
    MixInput input{x.data(),
                   checked<uint8_t>("target_mask", target_mask, shape).data(),
                   range_of("target_range", target_range),
                   nullptr,
                   nullptr,
                   number("weight", weight)};
    if (!reference.is_none()) {
        input.reference = checked<float>("reference", reference, shape).data();
        input.reference_mask = checked<uint8_t>("reference_mask", reference_mask, shape).data();
    }
    py::array mixture(py::dtype("e"), shape);
    auto* out = static_cast<uint16_t*>(mixture.mutable_data());
    const int64_t count = x.size();
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { mix(input, out, count, isa, workers); });
    return mixture;
}

py::array_t<float> py_unpack(const py::object& answer, const py::object& reference_labels, const py::object& weight,
                             const py::object& threads) {
    const auto a = checked<uint8_t>("answer", answer, {-1, -1, -1, -1});
    const int64_t classes = a.shape(0) + 1;
    if (classes > 255) throw InputError("answer: expected at most 254 channels, got " + std::to_string(classes - 1));
    const Shape3 shape = shape3(a, 1);
    const auto labels =
        checked<uint8_t>("reference_labels", reference_labels, {shape.size[0], shape.size[1], shape.size[2]});
    py::array_t<float> result({2 * classes + 1, shape.size[0], shape.size[1], shape.size[2]});
    const uint8_t *bytes = a.data(), *label = labels.data();
    const double target_weight = number("weight", weight);
    float* out = result.mutable_data();
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { unpack(bytes, label, target_weight, classes, shape.count(), out, isa, workers); });
    return result;
}

void py_accumulate(const py::object& total, const py::object& probabilities, const py::object& threads) {
    auto sum = checked<float>("total", total, {}, true);
    const auto p = checked<float>("probabilities", probabilities, shape_of(sum));
    float* out = sum.mutable_data();
    const float* data = p.data();
    const int64_t count = sum.size();
    const int workers = thread_count(threads);
    without_gil([&] { accumulate(out, data, count, workers); });
}

py::array_t<uint8_t> py_argmax(const py::object& probabilities, const py::object& threads) {
    const auto p = checked<float>("probabilities", probabilities, {-1, -1, -1, -1});
    const int64_t classes = class_count(p);
    const Shape3 shape = shape3(p, 1);
    py::array_t<uint8_t> labels({shape.size[0], shape.size[1], shape.size[2]});
    const float* data = p.data();
    uint8_t* out = labels.mutable_data();
    const int workers = thread_count(threads);
    without_gil([&] { argmax(data, classes, shape.count(), out, workers); });
    return labels;
}

py::array_t<float> py_resample(const py::object& image, const py::object& matrix, const py::object& shape,
                               const py::object& threads) {
    const auto x = checked<float>("image", image, {-1, -1, -1});
    const Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    py::array_t<float> result({to.size[0], to.size[1], to.size[2]});
    const float* data = x.data();
    const Shape3 from = shape3(x);
    float* out = result.mutable_data();
    const int workers = thread_count(threads);
    without_gil([&] { resample(data, from, m, to, out, workers); });
    return result;
}

py::array_t<uint8_t> py_restore_labels(const py::object& probabilities, const py::object& matrix,
                                       const py::object& shape, const py::object& threads) {
    const auto p = checked<float>("probabilities", probabilities, {-1, -1, -1, -1});
    const int64_t classes = class_count(p);
    const Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape), from = shape3(p, 1);
    py::array_t<uint8_t> labels({to.size[0], to.size[1], to.size[2]});
    const float* data = p.data();
    uint8_t* out = labels.mutable_data();
    const int workers = thread_count(threads);
    without_gil([&] { restore_labels(data, classes, from, m, to, out, workers); });
    return labels;
}

std::vector<std::string> py_available_isas() {
    std::vector<std::string> names;
    for (const Isa isa : available_isas()) names.emplace_back(name_of(isa));
    return names;
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    using py::arg;
    module.doc() = "Kernels on the CPU; use them through mixpriv.kernels.";
    py::register_local_exception_translator([](std::exception_ptr error) {
        try {
            if (error) std::rethrow_exception(error);
        } catch (const InputError& bad_input) {
            py::set_error(py::module_::import("mixpriv.errors").attr("InputError"), bad_input.what());
        }
    });

    module.def("robust_range", py_robust_range, arg("image"), arg("mask"), arg("lower_percent"), arg("upper_percent"),
               arg("threads"));
    module.def("mix", py_mix, arg("target"), arg("target_mask"), arg("target_range"), arg("reference"),
               arg("reference_mask"), arg("weight"), arg("threads"));
    module.def("unpack", py_unpack, arg("answer"), arg("reference_labels"), arg("weight"), arg("threads"));
    module.def("accumulate", py_accumulate, arg("total"), arg("probabilities"), arg("threads"));
    module.def("argmax", py_argmax, arg("probabilities"), arg("threads"));
    module.def("resample", py_resample, arg("image"), arg("matrix"), arg("shape"), arg("threads"));
    module.def("restore_labels", py_restore_labels, arg("probabilities"), arg("matrix"), arg("shape"), arg("threads"));

    module.def("isa", [] { return std::string(name_of(current_isa())); });
    module.def("available_isas", py_available_isas);
}
