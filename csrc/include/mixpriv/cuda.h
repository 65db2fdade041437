#pragma once

// The CUDA kernels: as those in kernels.h, but on device pointers and a stream. Work is queued on the stream, whose
// device must be current; what returns a number, or looks for bad labels, waits for it. Bad values throw InputError,
// failures of CUDA throw CudaError.

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>

#include "mixpriv/kernels.h"

namespace mixpriv::cuda {

class CudaError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

Range robust_range(const float* image, const uint8_t* mask, int64_t count, double lower_percent, double upper_percent,
                   cudaStream_t stream);
void mix(const MixInput& input, uint16_t* mixture, Shape3 shape, cudaStream_t stream);
void unpack(const uint8_t* answer, const uint8_t* reference_labels, double weight, int64_t classes, int64_t count,
            float* unmixer_input, cudaStream_t stream);
void accumulate(float* total, const float* probabilities, int64_t count, cudaStream_t stream);
void argmax(const float* probabilities, int64_t classes, int64_t count, uint8_t* labels, cudaStream_t stream);
void resample(const float* image, const View3& view, const Matrix& matrix, Shape3 shape, float* result,
              cudaStream_t stream);
void block_mean(const float* image, const View3& view, Shape3 factor, float* result, cudaStream_t stream);
void restore_labels(const ClassMaps& maps, const Matrix& matrix, Shape3 shape, uint8_t* labels, cudaStream_t stream);

// Control points are not looked at here: what is not finite gives 0.
void warp(const float* channels, int64_t count, Shape3 shape, const Warp& by, bool fill_background, float* result,
          cudaStream_t stream);
void warp_labels(const uint8_t* labels, Shape3 shape, const Warp& by, uint8_t* result, cudaStream_t stream);

}  // namespace mixpriv::cuda
