#pragma once

// How kernels are written and launched. A kernel's body is a sequence of phases: what each thread of the block does,
// then the next phase. No variable of a thread outlives its phase, so that the same body also runs on a processor,
// thread after thread (emulation/cuda_runtime.h): that is how its index arithmetic is tested without a GPU.

#include <algorithm>

#include "cuda/runtime.h"

namespace mixpriv::cuda {

#ifdef MIXPRIV_CUDA_EMULATION

template <class Phase>
void each_thread(const Phase& phase) {
    emulation::for_threads([&] { phase(); });
}

template <class Phase>
void each_thread_then_wait(const Phase& phase) {
    each_thread(phase);
}

constexpr int64_t most_blocks = 5;  // small, so that the loops over the grid are tested
constexpr int64_t most_rows = 3;

#else

template <class Phase>
__device__ void each_thread(const Phase& phase) {
    phase();
}

template <class Phase>
__device__ void each_thread_then_wait(const Phase& phase) {
    phase();
    __syncthreads();
}

constexpr int64_t most_blocks = int64_t{1} << 20;
constexpr int64_t most_rows = 65535;  // what CUDA allows along y and z

#endif

constexpr int block_size = 256;

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream, const Arguments&... arguments) {
#ifdef MIXPRIV_CUDA_EMULATION
    static_cast<void>(stream);
    emulation::run(grid, block, [&] { kernel(arguments...); });
#else
    kernel<<<grid, block, 0, stream>>>(arguments...);
#endif
    SAFE_CALL(cudaGetLastError());
}

inline int64_t blocks_for(int64_t count, int64_t each) {
    return (count + each - 1) / each;
}

inline dim3 grid_for(int64_t count) {
    return dim3(static_cast<unsigned>(std::min(blocks_for(count, block_size), most_blocks)));
}

// Calls body(index) once for every index below `count`, over the whole grid of `grid_for`.
template <class Body>
__device__ void for_each(int64_t count, const Body& body) {
    each_thread([&] {
        const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
        for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) body(i);
    });
}

// Neighbours that are read or written by one instruction; they must be aligned.
template <class T, int width>
struct alignas(sizeof(T) * width) Vector {
    T at[width];
};

template <int width, class T>
__device__ Vector<T, width> load(const T* from, int64_t index) {
    return reinterpret_cast<const Vector<T, width>*>(from)[index];
}

template <int width, class T>
__device__ void store(T* to, int64_t index, const Vector<T, width>& values) {
    reinterpret_cast<Vector<T, width>*>(to)[index] = values;
}

constexpr int wide = 4;

template <class T>
bool aligned(const T* pointer) {  // null is
    return reinterpret_cast<uintptr_t>(pointer) % (sizeof(T) * wide) == 0;
}

}  // namespace mixpriv::cuda
