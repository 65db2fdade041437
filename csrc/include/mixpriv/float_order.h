#pragma once

// Floats as integers of the same order, for exact percentiles by counting: one definition for CPU and CUDA.

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define MIXPRIV_EVERYWHERE __host__ __device__
#else
#define MIXPRIV_EVERYWHERE
#endif

namespace mixpriv {

// Unsigned order of the result is the order of the floats.
MIXPRIV_EVERYWHERE inline uint32_t key_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits ^ ((bits >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
}

inline float float_of(uint32_t key) {
    const uint32_t bits = key ^ ((key >> 31) != 0 ? 0x80000000u : 0xFFFFFFFFu);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

}  // namespace mixpriv
