#pragma once

// The CPU kernels on plain pointers. Volumes are C-ordered, channels first; sizes are 64-bit. Results do not depend on
// `threads`, nor on `isa`. Bad values throw InputError.

#include <array>
#include <cstdint>

#include "mixpriv/isa.h"

namespace mixpriv {

struct Shape3 {
    int64_t size[3];
    int64_t count() const { return size[0] * size[1] * size[2]; }
};

// Rows of a 3x4 affine, from an output voxel's index to the input's index.
using Matrix = std::array<std::array<double, 4>, 3>;

struct Range {
    double lo, hi;
};

// Exact percentiles (linear interpolation between order statistics) of the voxels inside the mask (null: all).
Range robust_range(const float* image, const uint8_t* mask, int64_t count, double lower_percent, double upper_percent,
                   int threads);

// mixture = f16(weight * t + (1 - weight) * r), t = clip((x - lo) / (hi - lo), 0, 1), both zero outside their masks.
struct MixInput {
    const float* target;
    const uint8_t* target_mask;
    Range target_range;
    const float* reference;  // null with weight 1
    const uint8_t* reference_mask;
    double weight;
};
void mix(const MixInput& input, uint16_t* mixture, int64_t count, Isa isa, int threads);

// (classes - 1, count) answer -> (2 * classes + 1, count): the linear unmixing clip((p - (1 - weight) * y) / weight,
// -1, 2) with y the one-hot reference labels, then y itself, then the weight.
void unpack(const uint8_t* answer, const uint8_t* reference_labels, double weight, int64_t classes, int64_t count,
            float* unmixer_input, Isa isa, int threads);

void accumulate(float* total, const float* probabilities, int64_t count, int threads);

// Index of the first largest channel.
void argmax(const float* probabilities, int64_t classes, int64_t count, uint8_t* labels, int threads);

// Trilinear; up to half a voxel outside the input the edge continues, beyond it the result is 0.
void resample(const float* image, Shape3 image_shape, const Matrix& matrix, Shape3 shape, float* result, int threads);

// Trilinear interpolation of every class, then the first largest one; 0 outside the grid.
void restore_labels(const float* probabilities, int64_t classes, Shape3 grid_shape, const Matrix& matrix, Shape3 shape,
                    uint8_t* labels, int threads);

}  // namespace mixpriv
