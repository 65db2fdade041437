#include "spline.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "mixpriv/error.h"

namespace mixpriv {
namespace {

constexpr float longest = 0x1p20f;  // voxels: no index overflows
constexpr int64_t longest_axis = 1 << 30;

SplineAxis axis_of(int64_t count, double knots) {
    SplineAxis axis;
    axis.cell.resize(static_cast<size_t>(count));
    for (auto& weight : axis.weight) weight.resize(static_cast<size_t>(count));
    for (int64_t k = 0; k < count; ++k) {
        const double position = static_cast<double>(k) / knots, cell = std::floor(position), f = position - cell;
        double weight[4];
        cubic_weights(f, weight);
        axis.cell[static_cast<size_t>(k)] = static_cast<int32_t>(cell);
        for (int m = 0; m < 4; ++m) axis.weight[m][static_cast<size_t>(k)] = static_cast<float>(weight[m]);
    }
    return axis;
}

// out[n] = sum over the four control points of voxel k, `stride` apart: the innermost loop runs over `count` values.
void contract(const SplineAxis& axis, int64_t k, const float* points, int64_t stride, int64_t count, float* out) {
    const auto at = static_cast<size_t>(k);
    const float* const p = points + axis.cell[at] * stride;
    const float w[4] = {axis.weight[0][at], axis.weight[1][at], axis.weight[2][at], axis.weight[3][at]};
    for (int64_t n = 0; n < count; ++n)
        out[n] = (w[0] * p[n] + w[1] * p[n + stride]) + (w[2] * p[n + 2 * stride] + w[3] * p[n + 3 * stride]);
}

std::string text(const int64_t* size) {
    return "(3, " + std::to_string(size[0]) + ", " + std::to_string(size[1]) + ", " + std::to_string(size[2]) + ")";
}

}  // namespace

int64_t points_needed(int64_t count, double knots) {
    return static_cast<int64_t>(std::min(std::floor(static_cast<double>(count - 1) / knots) + 4, 0x1p62));
}

void check_warp(const char* name, const Warp& warp, Shape3 shape) {
    if (!(std::isfinite(warp.knots) && warp.knots > 0.0))
        throw InputError(std::string(name) + ": expected a finite distance of control points above 0");
    int64_t needed[3];
    for (int a = 0; a < 3; ++a) {
        if (shape.size[a] > longest_axis)
            throw InputError(std::string(name) + ": expected a grid of axes up to 2^30 voxels, got a longer one");
        needed[a] = points_needed(shape.size[a], warp.knots);
    }
    for (int a = 0; a < 3; ++a)
        if (needed[a] > warp.points.size[a])
            throw InputError(std::string(name) + ": expected control points of at least " + text(needed) + ", got " +
                             text(warp.points.size));
    const int64_t entries = 3 * warp.points.count();
    for (int64_t n = 0; n < entries; ++n)
        if (!(std::abs(warp.control[n]) < longest))
            throw InputError(std::string(name) + ": expected finite displacements below 2^20 voxels");
}

Spline::Spline(const char* name, const Warp& warp, Shape3 shape) {
    check_warp(name, warp, shape);
    control = warp.control;
    points = warp.points;
    for (int a = 0; a < 3; ++a) axis[a] = axis_of(shape.size[a], warp.knots);
}

SplineRows::SplineRows(const Spline& spline) : spline_(spline) {
    const auto width = static_cast<size_t>(spline.points.size[2]), height = static_cast<size_t>(spline.points.size[1]);
    plane_.resize(3 * height * width);
    line_.resize(3 * width);
    for (size_t a = 0; a < 3; ++a) row_.coefficient[a] = line_.data() + a * width;
    for (int m = 0; m < 4; ++m) row_.weight[m] = spline.axis[2].weight[m].data();
    row_.cell = spline.axis[2].cell.data();
}

void SplineRows::move_to(int64_t i, int64_t j) {
    const int64_t width = spline_.points.size[2], slab = spline_.points.size[1] * width;
    if (i != plane_index_)
        for (int64_t a = 0; a < 3; ++a)
            contract(spline_.axis[0], i, spline_.control + a * spline_.points.count(), slab, slab,
                     plane_.data() + a * slab);
    plane_index_ = i;
    for (int64_t a = 0; a < 3; ++a)
        contract(spline_.axis[1], j, plane_.data() + a * slab, width, width, line_.data() + a * width);
    row_.index[0] = i;
    row_.index[1] = j;
}

}  // namespace mixpriv
