#pragma once

// Arguments from Python: arrays and numbers are checked here, once; what does not fit is named, and no value is shown.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"

namespace mixpriv::python {

namespace py = pybind11;

inline std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text;
    for (const int64_t n : shape) text += (text.empty() ? "" : ", ") + (n < 0 ? std::string("any") : std::to_string(n));
    return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

inline std::vector<int64_t> shape_of(const py::array& array) {
    return {array.shape(), array.shape() + array.ndim()};
}

inline std::string describe(const py::handle& value) {
    if (!py::isinstance<py::array>(value)) return std::string(py::str(py::type::of(value).attr("__name__")));
    const auto array = py::reinterpret_borrow<py::array>(value);
    std::string text = std::string(py::str(array.dtype())) + " " + shape_text(shape_of(array));
    if ((array.flags() & py::array::c_style) == 0) text += ", not C-contiguous";
    if ((array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) text += ", not aligned";
    if (!array.writeable()) text += ", read-only";
    return text;
}

inline bool fits(const std::vector<int64_t>& shape, const std::vector<int64_t>& wanted) {
    if (shape.size() != wanted.size()) return false;
    for (size_t i = 0; i < shape.size(); ++i)
        if (shape[i] < 1 || (wanted[i] >= 0 && shape[i] != wanted[i])) return false;
    return true;
}

// The array itself, never a copy or a cast. `wanted` is its shape, -1 standing for any size from 1; empty for any
// shape.
inline py::array checked(const char* name, const py::dtype& dtype, const py::handle& value,
                         const std::vector<int64_t>& wanted, bool writeable = false) {
    constexpr int layout = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    bool good = py::isinstance<py::array>(value);
    if (good) {
        const auto array = py::reinterpret_borrow<py::array>(value);
        good = py::detail::npy_api::get().PyArray_EquivTypes_(array.dtype().ptr(), dtype.ptr()) &&
               (array.flags() & layout) == layout && array.size() > 0 && (!writeable || array.writeable()) &&
               (wanted.empty() || fits(shape_of(array), wanted));
    }
    if (!good)
        throw InputError(std::string(name) + ": expected a " + (writeable ? "writable " : "") + "C-contiguous " +
                         std::string(py::str(dtype)) + " array " +
                         (wanted.empty() ? std::string("with at least one element") : shape_text(wanted)) + ", got " +
                         describe(value));
    return py::reinterpret_borrow<py::array>(value);
}

template <class T>
py::array_t<T> checked(const char* name, const py::handle& value, const std::vector<int64_t>& wanted,
                       bool writeable = false) {
    return py::reinterpret_borrow<py::array_t<T>>(checked(name, py::dtype::of<T>(), value, wanted, writeable));
}

// As `checked`, but axes may be flipped: what is laid out backwards is read backwards, and not copied.
struct FlippableImage {
    py::array array;
    View3 view;
};

inline FlippableImage checked_flippable(const char* name, const py::handle& value) {
    bool good = py::isinstance<py::array_t<float>>(value);
    FlippableImage image{};
    if (good) {
        image.array = py::reinterpret_borrow<py::array>(value);
        constexpr int aligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
        good = (image.array.flags() & aligned) != 0 && fits(shape_of(image.array), {-1, -1, -1});
    }
    py::ssize_t stride = sizeof(float);
    for (py::ssize_t a = 2; good && a >= 0; --a) {
        const py::ssize_t size = image.array.shape(a), step = image.array.strides(a);
        image.view.shape.size[a] = size;
        image.view.flipped[a] = size > 1 && step < 0;
        good = size == 1 || step == stride || step == -stride;
        stride *= size;
    }
    if (!good)
        throw InputError(std::string(name) +
                         ": expected a C-contiguous float32 array (any, any, any), axes flipped or not, got " +
                         describe(value));
    return image;
}

inline Shape3 shape3(const py::array& array, py::ssize_t first_axis = 0) {
    return {{array.shape(first_axis), array.shape(first_axis + 1), array.shape(first_axis + 2)}};
}

// Scalars are converted here and not by pybind11, whose own TypeError would print the arguments: weights and voxels.
[[noreturn]] inline void refuse(const char* name, const char* expected, const py::handle& value) {
    PyErr_Clear();
    throw InputError(std::string(name) + ": expected " + expected + ", got " + describe(value));
}

inline double number(const char* name, const py::handle& value) {
    const double x = PyFloat_AsDouble(value.ptr());
    if (x == -1.0 && PyErr_Occurred() != nullptr) refuse(name, "a number", value);
    return x;
}

inline int64_t whole_number(const char* name, const py::handle& value) {
    const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    const long long x = index ? PyLong_AsLongLong(index.ptr()) : -1;
    if (x == -1 && PyErr_Occurred() != nullptr) refuse(name, "whole numbers", value);
    return x;
}

inline py::sequence sequence_of(const char* name, size_t size, const char* expected, const py::handle& value) {
    if (PySequence_Check(value.ptr()) == 0 || PyObject_Length(value.ptr()) != static_cast<Py_ssize_t>(size))
        refuse(name, expected, value);
    return py::reinterpret_borrow<py::sequence>(value);
}

inline Range range_of(const char* name, const py::handle& value) {
    const py::sequence pair = sequence_of(name, 2, "a pair of numbers", value);
    return {number(name, pair[0]), number(name, pair[1])};
}

inline Shape3 output_shape(const py::handle& value, const char* name = "shape") {
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

inline Matrix matrix34(const py::handle& value) {
    const auto array = checked<double>("matrix", value, {3, 4});
    Matrix matrix;
    for (py::ssize_t i = 0; i < 3; ++i)
        for (py::ssize_t j = 0; j < 4; ++j) matrix[static_cast<size_t>(i)][static_cast<size_t>(j)] = array.at(i, j);
    return matrix;
}

inline Warp warp_of(const char* name, const py::handle& control, const py::handle& knots) {
    const auto points = checked<float>(name, control, {3, -1, -1, -1});
    return {points.data(), shape3(points, 1), number("knots", knots)};
}

// None, or a pair (control points, voxels from one to the next).
inline std::optional<Warp> optional_warp(const char* name, const py::handle& value) {
    if (value.is_none()) return std::nullopt;
    const py::sequence pair = sequence_of(name, 2, "None or a pair (control, knots)", value);
    return warp_of(name, pair[0], pair[1]);
}

// Whether two C-contiguous arrays share memory.
inline bool overlap(const py::array& one, const py::array& other) {
    const auto *const a = static_cast<const char*>(one.data()), *const b = static_cast<const char*>(other.data());
    return a < b + other.nbytes() && b < a + one.nbytes();
}

inline int64_t class_count(const py::array& probabilities) {
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

}  // namespace mixpriv::python
