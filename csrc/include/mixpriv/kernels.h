#pragma once

// The CPU kernels on plain pointers. Volumes are C-ordered, channels first; sizes are 64-bit. Results do not depend on
// `threads`, nor on `isa`. Bad values throw InputError.

#include <array>
#include <cstdint>
#include <vector>

#include "mixpriv/isa.h"

namespace mixpriv {

struct Shape3 {
    int64_t size[3];
    int64_t count() const { return size[0] * size[1] * size[2]; }
};

// A volume whose axes may run backwards in memory; the pointer beside it is to voxel (0, 0, 0).
struct View3 {
    Shape3 shape;
    bool flipped[3];
};

// Rows of a 3x4 affine, from an output voxel's index to the input's index.
using Matrix = std::array<std::array<double, 4>, 3>;

struct Range {
    double lo, hi;
};

// A smooth displacement in voxels along D, H, W, the uniform cubic B-spline of control points (3, gD, gH, gW), finite
// and below 2^20 in size. Point i lies at voxel (i - 1) * knots, so an axis of n voxels needs floor((n - 1) / knots)
// + 4.
struct Warp {
    const float* control;
    Shape3 points;
    double knots;  // voxels from a point to the next
};

// Exact percentiles (linear interpolation between order statistics) of the voxels inside the mask (null: all).
Range robust_range(const float* image, const uint8_t* mask, int64_t count, double lower_percent, double upper_percent,
                   Isa isa, int threads);

// mixture = f16(weight * t + (1 - weight) * r), t = clip((x - lo) / (hi - lo), 0, 1), both zero outside their masks;
// with a warp taken at x + u(x), trilinear and 0 beyond the grid, before it is rounded to f16.
struct MixInput {
    const float* target;
    const uint8_t* target_mask;
    Range target_range;
    const float* reference;  // null with weight 1
    const uint8_t* reference_mask;
    double weight;
    const Warp* warp;  // of both; null: none
};
void mix(const MixInput& input, uint16_t* mixture, Shape3 shape, Isa isa, int threads);

// (classes - 1, count) answer -> (2 * classes + 1, count): the linear unmixing clip((p - (1 - weight) * y) / weight,
// -1, 2) with y the one-hot reference labels, then y itself, then the weight.
void unpack(const uint8_t* answer, const uint8_t* reference_labels, double weight, int64_t classes, int64_t count,
            float* unmixer_input, Isa isa, int threads);

// Class probabilities of the target: soft-max of `correction` (8 * classes, shape / 2), whose channel 8c + 4i + 2j + k
// holds class c at the voxels (2x + i, 2y + j, 2z + k), plus `trust` times the linear unmixing (classes, shape; null:
// none). Added to what is there if `add`.
void unmix(const float* correction, const float* linear, double trust, int64_t classes, Shape3 shape, bool add,
           float* probabilities, Isa isa, int threads);

void accumulate(float* total, const float* probabilities, int64_t count, Isa isa, int threads);

// Index of the first largest channel.
void argmax(const float* probabilities, int64_t classes, int64_t count, uint8_t* labels, Isa isa, int threads);

// Trilinear; up to half a voxel outside the input the edge continues, beyond it the result is 0.
void resample(const float* image, const View3& view, const Matrix& matrix, Shape3 shape, float* result, Isa isa,
              int threads);

// Means of blocks of `factor` voxels along each axis; incomplete last blocks are left out.
void block_mean(const float* image, const View3& view, const int64_t* factor, float* result, int threads);

// Trilinear interpolation of every class, then the first largest one; 0 outside the grid. Where the mask (null: none)
// is 0, all that a voxel's classes sum to counts as class 0.
struct ClassMaps {
    const float* probabilities;
    const uint8_t* mask;
    int64_t classes;
    Shape3 shape;
};
void restore_labels(const ClassMaps& maps, const Matrix& matrix, Shape3 shape, uint8_t* labels, Isa isa, int threads);

// Channels at x + u(x), trilinear, 0 where that is outside [0, n - 1] on any axis; `fill_background` then adds
// 1 - (sum of the channels) to the first.
void warp(const float* channels, int64_t count, Shape3 shape, const Warp& by, bool fill_background, float* result,
          Isa isa, int threads);

// An answer's channels as `warp` bends them, rounded to the nearest whole number, ties upwards.
void warp_answer(const uint8_t* channels, int64_t count, Shape3 shape, const Warp& by, uint8_t* result, Isa isa,
                 int threads);

// The warp that undoes another on a grid: v(x) = -u(x + v(x)), by fixed-point iteration at control points of its own.
struct InverseWarp {
    std::vector<float> control;  // (3, points)
    Shape3 points;
    double knots;
};
InverseWarp invert(const Warp& forward, Shape3 shape, int threads);

// The label of the voxel nearest to x + u(x), ties upwards; 0 if there is none.
void warp_labels(const uint8_t* labels, Shape3 shape, const Warp& by, uint8_t* result, Isa isa, int threads);

}  // namespace mixpriv
