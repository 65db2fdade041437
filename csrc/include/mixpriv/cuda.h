#pragma once

// The CUDA kernels on plain device pointers and a stream: the same results as the CPU's. Work is queued on the stream; the
// device that the stream belongs to must be current. Bad values throw InputError, failures of CUDA throw CudaError.

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>

#include "mixpriv/kernels.h"

namespace mixpriv::cuda {

class CudaError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// As mixpriv::robust_range; waits for the stream, because it returns numbers.
Range robust_range(const float* image, const uint8_t* mask, int64_t count, double lower_percent, double upper_percent,
                   cudaStream_t stream);

// A coarse grid of cubic B-spline coefficients, (3, size): displacements along D, H, W in voxels.
struct Control {
    const float* points;  // null: no warp
    Shape3 size;
    double knots;  // voxels between control points
};

struct Mixing {
    const float* target;
    const uint8_t* target_mask;
    Range target_range;
    const float* reference;  // null with weight 1
    const uint8_t* reference_mask;
    double weight;
    Control target_warp, reference_warp;
};
void mix(const Mixing& input, uint16_t* mixture, Shape3 shape, cudaStream_t stream);

// Waits for the stream, because labels that are too large throw.
void unpack(const uint8_t* answer, const uint8_t* reference_labels, double weight, int64_t classes, int64_t count,
            float* unmixer_input, cudaStream_t stream);

void accumulate(float* total, const float* probabilities, int64_t count, cudaStream_t stream);
void argmax(const float* probabilities, int64_t classes, int64_t count, uint8_t* labels, cudaStream_t stream);

// `range` null: the interpolated values as they are.
void resample(const float* image, Shape3 image_shape, const Matrix& matrix, Shape3 shape, const Range* range,
              float* result, cudaStream_t stream);
void resample_labels(const uint8_t* labels, Shape3 labels_shape, const Matrix& matrix, Shape3 shape, uint8_t* result,
                     cudaStream_t stream);

struct Restoring {
    const float* probabilities;
    const float* last;    // added to the probabilities; null: nothing
    const uint8_t* mask;  // 0: pure background; null: all inside
    int64_t classes;
    Shape3 grid_shape;
};
void restore_labels(const Restoring& input, const Matrix& matrix, Shape3 shape, uint8_t* labels, cudaStream_t stream);

void warp(const float* channels, int64_t count, Shape3 shape, const Control& control, bool fill_background,
          float* result, cudaStream_t stream);
void warp_labels(const uint8_t* labels, Shape3 shape, const Control& control, uint8_t* result, cudaStream_t stream);

}  // namespace mixpriv::cuda
