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
    const Isa isa = current_isa();
    Range range{};
    without_gil([&] { range = robust_range(data, inside, count, lower, upper, isa, workers); });
    return py::make_tuple(range.lo, range.hi);
}

py::array py_mix(const py::object& target, const py::object& target_mask, const py::object& target_range,
                 const py::object& reference, const py::object& reference_mask, const py::object& weight,
                 const py::object& warp, const py::object& threads) {
    const auto x = checked<float>("target", target, {-1, -1, -1});
    const auto shape = shape_of(x);
    const auto x_mask = checked<uint8_t>("target_mask", target_mask, shape);
    const std::optional<Warp> bend = optional_warp("warp", warp);
    MixInput input{x.data(),
                   x_mask.data(),
                   range_of("target_range", target_range),
                   nullptr,
                   nullptr,
                   number("weight", weight),
                   bend ? &*bend : nullptr};
    if (!reference.is_none()) {
        const auto r = checked<float>("reference", reference, shape);
        const auto r_mask = checked<uint8_t>("reference_mask", reference_mask, shape);
        input.reference = r.data();
        input.reference_mask = r_mask.data();
    }
    py::array mixture(py::dtype("e"), shape);
    auto* to = static_cast<uint16_t*>(mixture.mutable_data());
    const Shape3 sizes = shape3(x);
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { mix(input, to, sizes, isa, workers); });
    return mixture;
}

py::array_t<float> py_unpack(const py::object& answer, const py::object& reference_labels, const py::object& weight,
                             const py::object& out, const py::object& threads) {
    const auto a = checked<uint8_t>("answer", answer, {-1, -1, -1, -1});
    const int64_t classes = a.shape(0) + 1;
    if (classes > 255) throw InputError("answer: expected at most 254 channels, got " + std::to_string(classes - 1));
    const Shape3 shape = shape3(a, 1);
    const auto labels =
        checked<uint8_t>("reference_labels", reference_labels, {shape.size[0], shape.size[1], shape.size[2]});
    const std::vector<int64_t> sizes{2 * classes + 1, shape.size[0], shape.size[1], shape.size[2]};
    auto result = out.is_none() ? py::array_t<float>(sizes) : checked<float>("out", out, sizes, true);
    if (overlap(result, a) || overlap(result, labels))
        throw InputError("out: expected an array apart from answer and reference_labels, got one that overlaps them");
    const uint8_t *bytes = a.data(), *label = labels.data();
    const double target_weight = number("weight", weight);
    float* to = result.mutable_data();
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { unpack(bytes, label, target_weight, classes, shape.count(), to, isa, workers); });
    return result;
}

py::array_t<float> py_unmix(const py::object& correction, const py::object& linear, const py::object& trust,
                            const py::object& total, const py::object& threads) {
    const auto x = checked<float>("correction", correction, {-1, -1, -1, -1});
    const int64_t classes = x.shape(0) / 8;
    if (x.shape(0) % 8 != 0 || classes > 255)
        throw InputError("correction: expected 8 channels for each of at most 255 classes, got " +
                         std::to_string(x.shape(0)));
    const Shape3 shape{{2 * x.shape(1), 2 * x.shape(2), 2 * x.shape(3)}};
    const std::vector<int64_t> sizes{classes, shape.size[0], shape.size[1], shape.size[2]};
    py::array_t<float> known;
    if (!linear.is_none()) known = checked<float>("linear", linear, sizes);
    const bool add = !total.is_none();
    auto result = add ? checked<float>("total", total, sizes, true) : py::array_t<float>(sizes);
    if (overlap(result, x) || (!linear.is_none() && overlap(result, known)))
        throw InputError("total: expected an array apart from correction and linear, got one that overlaps them");
    const float *from = x.data(), *unmixed = linear.is_none() ? nullptr : known.data();
    const double share = number("trust", trust);
    float* to = result.mutable_data();
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { unmix(from, unmixed, share, classes, shape, add, to, isa, workers); });
    return result;
}

void py_accumulate(const py::object& total, const py::object& probabilities, const py::object& threads) {
    auto sum = checked<float>("total", total, {}, true);
    const auto p = checked<float>("probabilities", probabilities, shape_of(sum));
    float* out = sum.mutable_data();
    const float* data = p.data();
    if (sum.data() != p.data() && overlap(sum, p))
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
                               const py::object& threads) {
    const FlippableImage x = checked_flippable("image", image);
    const Matrix m = matrix34(matrix);
    const Shape3 to = output_shape(shape);
    py::array_t<float> result({to.size[0], to.size[1], to.size[2]});
    const auto* data = static_cast<const float*>(x.array.data());
    float* out = result.mutable_data();
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { resample(data, x.view, m, to, out, isa, workers); });
    return result;
}

py::array_t<float> py_block_mean(const py::object& image, const py::object& factors, const py::object& threads) {
    const FlippableImage x = checked_flippable("image", image);
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
                                       const py::object& shape, const py::object& mask, const py::object& threads) {
    const auto p = checked<float>("probabilities", probabilities, {-1, -1, -1, -1});
    const Shape3 from = shape3(p, 1);
    ClassMaps maps{p.data(), nullptr, class_count(p), from};
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

py::array_t<uint8_t> py_warp_answer(const py::object& answer, const py::object& control, const py::object& knots,
                                    const py::object& threads) {
    const auto x = checked<uint8_t>("answer", answer, {-1, -1, -1, -1});
    const Warp by = warp_of("control", control, knots);
    py::array_t<uint8_t> result(shape_of(x));
    const uint8_t* data = x.data();
    uint8_t* out = result.mutable_data();
    const int64_t count = x.shape(0);
    const Shape3 shape = shape3(x, 1);
    const Isa isa = current_isa();
    const int workers = thread_count(threads);
    without_gil([&] { warp_answer(data, count, shape, by, out, isa, workers); });
    return result;
}

py::tuple py_invert_warp(const py::object& control, const py::object& knots, const py::object& shape,
                         const py::object& threads) {
    const Warp forward = warp_of("control", control, knots);
    const Shape3 of = output_shape(shape);
    const int workers = thread_count(threads);
    InverseWarp inverse;
    without_gil([&] { inverse = invert(forward, of, workers); });
    py::array_t<float> points({int64_t{3}, inverse.points.size[0], inverse.points.size[1], inverse.points.size[2]});
    std::copy(inverse.control.begin(), inverse.control.end(), points.mutable_data());
    return py::make_tuple(points, inverse.knots);
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
               arg("reference_mask"), arg("weight"), arg("warp"), arg("threads"));
    module.def("unpack", py_unpack, arg("answer"), arg("reference_labels"), arg("weight"), arg("out"), arg("threads"));
    module.def("unmix", py_unmix, arg("correction"), arg("linear"), arg("trust"), arg("total"), arg("threads"));
    module.def("accumulate", py_accumulate, arg("total"), arg("probabilities"), arg("threads"));
    module.def("argmax", py_argmax, arg("probabilities"), arg("threads"));
    module.def("resample", py_resample, arg("image"), arg("matrix"), arg("shape"), arg("threads"));
    module.def("block_mean", py_block_mean, arg("image"), arg("factors"), arg("threads"));
    module.def("restore_labels", py_restore_labels, arg("probabilities"), arg("matrix"), arg("shape"), arg("mask"),
               arg("threads"));
    module.def("warp", py_warp, arg("channels"), arg("control"), arg("knots"), arg("fill_background"), arg("threads"));
    module.def("warp_answer", py_warp_answer, arg("answer"), arg("control"), arg("knots"), arg("threads"));
    module.def("invert_warp", py_invert_warp, arg("control"), arg("knots"), arg("shape"), arg("threads"));
    module.def("warp_labels", py_warp_labels, arg("labels"), arg("control"), arg("knots"), arg("threads"));

    module.def("isa", [] { return std::string(name_of(current_isa())); });
    module.def("available_isas", py_available_isas);
}
