// The only file that knows Python: arrays are checked here, once, then the GIL is released.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "mixpriv/error.h"
#include "mixpriv/isa.h"
#include "mixpriv/kernels.h"

namespace py = pybind11;
using namespace mixpriv;

namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text;
    for (const int64_t n : shape) text += (text.empty() ? "" : ", ") + (n < 0 ? std::string("any") : std::to_string(n));
    return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

std::vector<int64_t> shape_of(const py::array& array) {
    return {array.shape(), array.shape() + array.ndim()};
}

std::string describe(const py::handle& value) {
    if (!py::isinstance<py::array>(value)) return std::string(py::str(py::type::of(value).attr("__name__")));
    const auto array = py::reinterpret_borrow<py::array>(value);
    std::string text = std::string(py::str(array.dtype())) + " " + shape_text(shape_of(array));
    if ((array.flags() & py::array::c_style) == 0) text += ", not C-contiguous";
    if ((array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) text += ", not aligned";
    if (!array.writeable()) text += ", read-only";
    return text;
}

bool fits(const std::vector<int64_t>& shape, const std::vector<int64_t>& wanted) {
    if (shape.size() != wanted.size()) return false;
    for (size_t i = 0; i < shape.size(); ++i)
        if (shape[i] < 1 || (wanted[i] >= 0 && shape[i] != wanted[i])) return false;
    return true;
}

// The array itself, never a copy or a cast. `wanted` is its shape, -1 standing for any size from 1; empty for any
// shape.
template <class T>
py::array_t<T> checked(const char* name, const py::handle& value, const std::vector<int64_t>& wanted,
                       bool writeable = false) {
    using Array = py::array_t<T, py::array::c_style>;
    constexpr int aligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    bool good = py::isinstance<Array>(value);
    if (good) {
        const auto array = py::reinterpret_borrow<py::array>(value);
        good = (array.flags() & aligned) != 0 && array.size() > 0 && (!writeable || array.writeable()) &&
               (wanted.empty() || fits(shape_of(array), wanted));
    }
    if (!good)
        throw InputError(std::string(name) + ": expected a " + (writeable ? "writable " : "") + "C-contiguous " +
                         std::string(py::str(py::dtype::of<T>())) + " array " +
                         (wanted.empty() ? std::string("with at least one element") : shape_text(wanted)) + ", got " +
                         describe(value));
    return py::reinterpret_borrow<py::array_t<T>>(value);
}

// As `checked`, but axes may be flipped: what is laid out backwards is read backwards, and not copied.
struct FlippableImage {
    py::array array;
    View3 view;
};

template <class T>
FlippableImage checked_flippable(const char* name, const py::handle& value) {
    bool good = py::isinstance<py::array_t<T>>(value);
    FlippableImage image{};
    if (good) {
        image.array = py::reinterpret_borrow<py::array>(value);
        constexpr int aligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
        good = (image.array.flags() & aligned) != 0 && fits(shape_of(image.array), {-1, -1, -1});
    }
    py::ssize_t stride = sizeof(T);
    for (py::ssize_t a = 2; good && a >= 0; --a) {
        const py::ssize_t size = image.array.shape(a), step = image.array.strides(a);
        image.view.shape.size[a] = size;
        image.view.flipped[a] = size > 1 && step < 0;
        good = size == 1 || step == stride || step == -stride;
        stride *= size;
    }
    if (!good)
        throw InputError(std::string(name) + ": expected a C-contiguous " + std::string(py::str(py::dtype::of<T>())) +
                         " array (any, any, any), axes flipped or not, got " + describe(value));
    return image;
}

Shape3 shape3(const py::array& array, py::ssize_t first_axis = 0) {
    return {{array.shape(first_axis), array.shape(first_axis + 1), array.shape(first_axis + 2)}};
}

// Scalars are converted here and not by pybind11, whose own TypeError would print the arguments: weights and voxels.
[[noreturn]] void refuse(const char* name, const char* expected, const py::handle& value) {
    PyErr_Clear();
    throw InputError(std::string(name) + ": expected " + expected + ", got " + describe(value));
}

double number(const char* name, const py::handle& value) {
    const double x = PyFloat_AsDouble(value.ptr());
    if (x == -1.0 && PyErr_Occurred() != nullptr) refuse(name, "a number", value);
    return x;
}

int64_t whole_number(const char* name, const py::handle& value) {
    const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    const long long x = index ? PyLong_AsLongLong(index.ptr()) : -1;
    if (x == -1 && PyErr_Occurred() != nullptr) refuse(name, "whole numbers", value);
    return x;
}

py::sequence sequence_of(const char* name, size_t size, const char* expected, const py::handle& value) {
    if (PySequence_Check(value.ptr()) == 0 || PyObject_Length(value.ptr()) != static_cast<Py_ssize_t>(size))
        refuse(name, expected, value);
    return py::reinterpret_borrow<py::sequence>(value);
}

int thread_count(const py::handle& value) {
    return static_cast<int>(std::clamp<int64_t>(whole_number("threads", value), 1, 1 << 16));
}

Range range_of(const char* name, const py::handle& value) {
    const py::sequence pair = sequence_of(name, 2, "a pair of numbers", value);
    return {number(name, pair[0]), number(name, pair[1])};
}

Shape3 output_shape(const py::handle& value, const char* name = "shape") {
    constexpr double most_voxels = 0x1p40;
    const py::sequence sizes = sequence_of(name, 3, "three sizes", value);
    Shape3 shape{};
    double voxels = 1.0;
    for (size_t a = 0; a < 3; ++a) {
        shape.size[a] = whole_number(name, sizes[a]);
        if (shape.size[a] < 1 || shape.size[a] > INT32_MAX)
            throw InputError(std::string(name) + ": expected sizes from 1 to 2^31 - 1, got " +
                             std::to_string(shape.size[a]));
        voxels *= static_cast<double>(shape.size[a]);
    }
    if (voxels > most_voxels) throw InputError(std::string(name) + ": expected at most 2^40 voxels, got more");
    return shape;
}

Matrix matrix34(const py::handle& value) {
    const auto array = checked<double>("matrix", value, {3, 4});
    Matrix matrix;
    for (py::ssize_t i = 0; i < 3; ++i)
        for (py::ssize_t j = 0; j < 4; ++j) matrix[static_cast<size_t>(i)][static_cast<size_t>(j)] = array.at(i, j);
    return matrix;
}

// None, or a pair (control points, voxels from one to the next).
struct OptionalWarp {
    bool given = false;
    Warp warp{};
    const Warp* get() const { return given ? &warp : nullptr; }
};

Warp warp_of(const char* name, const py::handle& control, const py::handle& knots) {
    const auto points = checked<float>(name, control, {3, -1, -1, -1});
    return {points.data(), shape3(points, 1), number("knots", knots)};
}

OptionalWarp optional_warp(const char* name, const py::handle& value) {
    if (value.is_none()) return {};
    const py::sequence pair = sequence_of(name, 2, "None or a pair (control, knots)", value);
    return {true, warp_of(name, pair[0], pair[1])};
}

// Whether two arrays share memory without being the very same stretch of it.
bool overlap_in_part(const py::array& one, const py::array& other) {
    const auto *const a = static_cast<const char*>(one.data()), *const b = static_cast<const char*>(other.data());
    return a != b && a < b + other.nbytes() && b < a + one.nbytes();
}

int64_t class_count(const py::array& probabilities) {
    const int64_t classes = probabilities.shape(0);
    if (classes > 255) throw InputError("probabilities: expected at most 255 classes, got " + std::to_string(classes));
    return classes;
}

// Kernels touch no Python object, and hold on long enough that other Python threads should run meanwhile.
template <class Kernel>
void without_gil(const Kernel& kernel) {
    const py::gil_scoped_release release;
    kernel();
}

py::tuple py_robust_range(const py::object& image, const py::object& mask, const py::object& lower_percent,
                          const py::object& upper_percent, const py::object& threads) {
    const auto x = checked<float>("image", image, {});
    const uint8_t* inside = mask.is_none() ? nullptr : checked<uint8_t>("mask", mask, shape_of(x)).data();
    const float* data = x.data();
    const int64_t count = x.size();
    const double lower = number("lower_percent", lower_percent), upper = number("upper_percent", upper_percent);
    const int workers = thread_count(threads);
    const Isa isa = current_isa();
    Range range{};
    without_gil([&] { range = robust_range(data, inside, count, lower, upper, isa, workers); });
    return py::make_tuple(range.lo, range.hi);
}

py::array py_mix(const py::object& target, const py::object& target_mask, const py::object& target_range,
                 const py::object& reference, const py::object& reference_mask, const py::object& weight,
                 const py::object& target_warp, const py::object& reference_warp, const py::object& threads) {
    const auto x = checked<float>("target", target, {-1, -1, -1});
    const auto shape = shape_of(x);
    const OptionalWarp warps[2] = {optional_warp("target_warp", target_warp),
                                   optional_warp("reference_warp", reference_warp)};
    MixInput input{x.data(),
                   checked<uint8_t>("target_mask", target_mask, shape).data(),
                   range_of("target_range", target_range),
                   nullptr,
                   nullptr,
                   number("weight", weight),
                   warps[0].get(),
                   warps[1].get()};
    if (!reference.is_none()) {
        input.reference = checked<float>("reference", reference, shape).data();
        input.reference_mask = checked<uint8_t>("reference_mask", reference_mask, shape).data();
    }
    py::array mixture(py::dtype("e"), shape);
    auto* out = static_cast<uint16_t*>(mixture.mutable_data());
    const Shape3 sizes = shape3(x);
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { mix(input, out, sizes, isa, workers); });
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
    if (overlap_in_part(sum, p))
        throw InputError(
            "probabilities: expected the total itself or an array apart from it, got one that overlaps it");
    const int64_t count = sum.size();
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { accumulate(out, data, count, isa, workers); });
}

py::array_t<uint8_t> py_argmax(const py::object& probabilities, const py::object& threads) {
    const auto p = checked<float>("probabilities", probabilities, {-1, -1, -1, -1});
    const int64_t classes = class_count(p);
    const Shape3 shape = shape3(p, 1);
    py::array_t<uint8_t> labels({shape.size[0], shape.size[1], shape.size[2]});
    const float* data = p.data();
    uint8_t* out = labels.mutable_data();
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { argmax(data, classes, shape.count(), out, isa, workers); });
    return labels;
}

py::array_t<float> py_resample(const py::object& image, const py::object& matrix, const py::object& shape,
                               const py::object& intensity_range, const py::object& threads) {
    const FlippableImage x = checked_flippable<float>("image", image);
    const Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    const bool normalised = !intensity_range.is_none();
    const Range range = normalised ? range_of("intensity_range", intensity_range) : Range{};
    py::array_t<float> result({to.size[0], to.size[1], to.size[2]});
    const auto* data = static_cast<const float*>(x.array.data());
    float* out = result.mutable_data();
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { resample(data, x.view, m, to, normalised ? &range : nullptr, out, isa, workers); });
    return result;
}

py::array_t<uint8_t> py_resample_labels(const py::object& labels, const py::object& matrix, const py::object& shape,
                                        const py::object& threads) {
    const FlippableImage x = checked_flippable<uint8_t>("labels", labels);
    const Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    py::array_t<uint8_t> result({to.size[0], to.size[1], to.size[2]});
    const auto* data = static_cast<const uint8_t*>(x.array.data());
    uint8_t* out = result.mutable_data();
    const int workers = thread_count(threads);
    without_gil([&] { resample_labels(data, x.view, m, to, out, workers); });
    return result;
}

py::array_t<float> py_block_mean(const py::object& image, const py::object& factors, const py::object& threads) {
    const FlippableImage x = checked_flippable<float>("image", image);
    const Shape3 factor = output_shape(factors, "factors");
    Shape3 to{};
    for (size_t a = 0; a < 3; ++a) {
        to.size[a] = x.view.shape.size[a] / factor.size[a];
        if (to.size[a] < 1)
            throw InputError("factors: expected at most the image's size, " + std::to_string(x.view.shape.size[a]) +
                             ", got " + std::to_string(factor.size[a]));
    }
    py::array_t<float> result({to.size[0], to.size[1], to.size[2]});
    const auto* data = static_cast<const float*>(x.array.data());
    float* out = result.mutable_data();
    const int workers = thread_count(threads);
    without_gil([&] { block_mean(data, x.view, factor.size, out, workers); });
    return result;
}

py::array_t<uint8_t> py_restore_labels(const py::object& probabilities, const py::object& matrix,
                                       const py::object& shape, const py::object& last, const py::object& mask,
                                       const py::object& threads) {
    const auto p = checked<float>("probabilities", probabilities, {-1, -1, -1, -1});
    const Shape3 from = shape3(p, 1);
    ClassMaps maps{p.data(), nullptr, nullptr, class_count(p), from};
    if (!last.is_none()) maps.last = checked<float>("last", last, shape_of(p)).data();
    if (!mask.is_none()) maps.mask = checked<uint8_t>("mask", mask, {from.size[0], from.size[1], from.size[2]}).data();
    const Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    py::array_t<uint8_t> labels({to.size[0], to.size[1], to.size[2]});
    uint8_t* out = labels.mutable_data();
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { restore_labels(maps, m, to, out, isa, workers); });
    return labels;
}

py::array_t<float> py_warp(const py::object& channels, const py::object& control, const py::object& knots,
                           const py::object& fill_background, const py::object& threads) {
    const auto x = checked<float>("channels", channels, {-1, -1, -1, -1});
    const Warp by = warp_of("control", control, knots);
    const int fill = PyObject_IsTrue(fill_background.ptr());
    if (fill < 0) refuse("fill_background", "True or False", fill_background);
    py::array_t<float> result(shape_of(x));
    const float* data = x.data();
    float* out = result.mutable_data();
    const int64_t count = x.shape(0);
    const Shape3 shape = shape3(x, 1);
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { warp(data, count, shape, by, fill != 0, out, isa, workers); });
    return result;
}

py::array_t<uint8_t> py_warp_labels(const py::object& labels, const py::object& control, const py::object& knots,
                                    const py::object& threads) {
    const auto x = checked<uint8_t>("labels", labels, {-1, -1, -1});
    const Warp by = warp_of("control", control, knots);
    py::array_t<uint8_t> result(shape_of(x));
    const uint8_t* data = x.data();
    uint8_t* out = result.mutable_data();
    const Shape3 shape = shape3(x);
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { warp_labels(data, shape, by, out, isa, workers); });
    return result;
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
               arg("reference_mask"), arg("weight"), arg("target_warp"), arg("reference_warp"), arg("threads"));
    module.def("unpack", py_unpack, arg("answer"), arg("reference_labels"), arg("weight"), arg("threads"));
    module.def("accumulate", py_accumulate, arg("total"), arg("probabilities"), arg("threads"));
    module.def("argmax", py_argmax, arg("probabilities"), arg("threads"));
    module.def("resample", py_resample, arg("image"), arg("matrix"), arg("shape"), arg("intensity_range"),
               arg("threads"));
    module.def("resample_labels", py_resample_labels, arg("labels"), arg("matrix"), arg("shape"), arg("threads"));
    module.def("block_mean", py_block_mean, arg("image"), arg("factors"), arg("threads"));
    module.def("restore_labels", py_restore_labels, arg("probabilities"), arg("matrix"), arg("shape"), arg("last"),
               arg("mask"), arg("threads"));
    module.def("warp", py_warp, arg("channels"), arg("control"), arg("knots"), arg("fill_background"), arg("threads"));
    module.def("warp_labels", py_warp_labels, arg("labels"), arg("control"), arg("knots"), arg("threads"));

    module.def("isa", [] { return std::string(name_of(current_isa())); });
    module.def("available_isas", py_available_isas);
}
