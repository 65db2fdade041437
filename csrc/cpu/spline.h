#pragma once

// A warp's displacement along the rows of a grid: the two outer axes of the control points are contracted once per
// row, so that a row needs no more than its own few coefficients.

#include <cstdint>
#include <vector>

#include "mixpriv/kernels.h"
#include "mixpriv/rows.h"
#include "sampling.h"

namespace mixpriv {

// Per voxel of one axis: the first of the four control points that it depends on, and their weights.
struct SplineAxis {
    std::vector<int32_t> cell;
    std::vector<float> weight[4];
};

// A checked warp of a grid.
class Spline {
  public:
    Spline(const char* name, const Warp& warp, Shape3 shape);

    const float* control = nullptr;
    Shape3 points{};
    SplineAxis axis[3];
};

// Throws InputError, with the argument's name, if a warp is not one of a grid.
void check_warp(const char* name, const Warp& warp, Shape3 shape);

// Control points that an axis of `count` voxels needs.
int64_t points_needed(int64_t count, double knots);

// Weights of the four control points around a place, `f` of the way from the second to the third.
inline void cubic_weights(double f, double (&weight)[4]) {
    weight[0] = (1 - f) * (1 - f) * (1 - f) / 6;
    weight[1] = (3 * f * f * f - 6 * f * f + 4) / 6;
    weight[2] = (-3 * f * f * f + 3 * f * f + 3 * f + 1) / 6;
    weight[3] = f * f * f / 6;
}

// What one worker holds of a spline while it goes from row to row.
class SplineRows {
  public:
    explicit SplineRows(const Spline& spline);

    void move_to(int64_t i, int64_t j);
    const BentRow& row() const { return row_; }

  private:
    const Spline& spline_;
    int64_t plane_index_ = -1;
    std::vector<float> plane_;  // (3, gH, gW) at the plane
    std::vector<float> line_;   // (3, gW) at the row
    BentRow row_{};
};

}  // namespace mixpriv
