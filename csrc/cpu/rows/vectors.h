#pragma once

// Vectors of the compiler, as wide as the instruction set's, and the few steps for which it needs to be told the
// instruction: those that GCC 12 else does value by value, and stores past the caches.
//
// All that is included here is compiled once for every instruction set, so everything is local to the file that
// includes it, and nothing comes from the standard library: of a shared inline function the linker keeps one copy, and
// it might be one that an older processor cannot run.

#include <cstdint>
#include <cstring>

#include "mixpriv/rows.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace mixpriv {
namespace {

template <class T, int64_t N>
struct VectorOf {
    typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int64_t N>
using Vector = typename VectorOf<T, N>::type;

#if defined(__AVX512F__)
constexpr int64_t lanes = 16;
#elif defined(__AVX2__)
constexpr int64_t lanes = 8;
#else
constexpr int64_t lanes = 4;
#endif
constexpr int64_t at_most_8 = lanes < 8 ? lanes : 8;
constexpr int64_t line = 16;  // values of binary32 on a cache line

template <int64_t N, class T>
inline Vector<T, N> load(const T* p) {
    Vector<T, N> x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

// Bytes as whole numbers of 32 bits.
template <int64_t N>
inline Vector<int32_t, N> load_bytes(const uint8_t* p) {
    using Wholes = Vector<int32_t, N>;
#ifdef __SSE2__
    const auto bytes = reinterpret_cast<const __m128i*>(p);
    if constexpr (N == 16) return reinterpret_cast<Wholes>(_mm512_cvtepu8_epi32(_mm_loadu_si128(bytes)));
    if constexpr (N == 8) return reinterpret_cast<Wholes>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes)));
    if constexpr (N == 4) {
        const __m128i zero = _mm_setzero_si128(), pairs = _mm_unpacklo_epi8(_mm_loadu_si32(bytes), zero);
        return reinterpret_cast<Wholes>(_mm_unpacklo_epi16(pairs, zero));
    }
#endif
    return __builtin_convertvector(load<N>(p), Wholes);
}

// Past the caches if `stream`; then the address must be a multiple of the vector's size.
template <class V>
inline void store(void* p, V x, bool stream = false) {
#ifdef __SSE2__
    if constexpr (sizeof x == 64)
        if (stream) return _mm512_stream_si512(static_cast<__m512i*>(p), reinterpret_cast<__m512i>(x));
    if constexpr (sizeof x == 32)
        if (stream) return _mm256_stream_si256(static_cast<__m256i*>(p), reinterpret_cast<__m256i>(x));
    if constexpr (sizeof x == 16)
        if (stream) return _mm_stream_si128(static_cast<__m128i*>(p), reinterpret_cast<__m128i>(x));
#endif
    static_cast<void>(stream);
    std::memcpy(p, &x, sizeof x);
}

// What was stored past the caches is there for other threads.
void finish() {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

// Where several arrays are read, or much work stands between two loads, processors fetch too late by themselves.
inline void fetch_ahead(const void* p) {
    constexpr int64_t ahead = 4096;
    __builtin_prefetch(static_cast<const char*>(p) + ahead);
}

// x in every lane: what 0 is subtracted from stays as it is.
template <int64_t N>
inline Vector<float, N> all_lanes(float x) {
    return x - Vector<float, N>{};
}

// The larger and the smaller values; that of y where one is NaN.
template <class V>
inline V larger(V x, V y) {
#ifdef __SSE2__
    if constexpr (sizeof x == 64) return _mm512_max_ps(x, y);
    if constexpr (sizeof x == 32) return _mm256_max_ps(x, y);
#endif
    return x > y ? x : y;
}

template <class V>
inline V smaller(V x, V y) {
#ifdef __SSE2__
    if constexpr (sizeof x == 64) return _mm512_min_ps(x, y);
    if constexpr (sizeof x == 32) return _mm256_min_ps(x, y);
#endif
    return x < y ? x : y;
}

// A bit for each lane that lies in low..high.
template <class V>
inline uint32_t bits_between(V x, float low, float high) {
#ifdef __SSE2__
    if constexpr (sizeof x == 64) {
        const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_set1_ps(low), _CMP_LT_OS);
        return _kandn_mask16(below, _mm512_cmp_ps_mask(x, _mm512_set1_ps(high), _CMP_LE_OS));
    }
#endif
    const auto between = (x >= low) & (x <= high);
#ifdef __SSE2__
    if constexpr (sizeof x == 32) return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(between)));
    if constexpr (sizeof x == 16) return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(between)));
#endif
    uint32_t bits = 0;
    for (uint32_t n = 0; n < sizeof x / sizeof low; ++n) bits |= static_cast<uint32_t>(between[n]) & 1u << n;
    return bits;
}

// binary32 in 0..1 to binary16, round to nearest even.
template <class V>
inline auto halves_of(V x) {
    constexpr int64_t N = sizeof x / sizeof x[0];
    using Halves = Vector<uint16_t, N>;
    using Bits = Vector<uint32_t, N>;
#ifdef __SSE2__
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT;
    if constexpr (N == 16) return reinterpret_cast<Halves>(_mm512_cvtps_ph(x, nearest));
    if constexpr (N == 8) return reinterpret_cast<Halves>(_mm256_cvtps_ph(x, nearest));
#endif
    const V shifted = x + 0.5f;  // below 2^-14 the sum's last bit is binary16's subnormal step: the adder rounds
    const Bits bits = reinterpret_cast<Bits>(x), subnormal = reinterpret_cast<Bits>(shifted) - 0x3F000000u;
    const Bits normal = (bits - (112u << 23) + 0xFFFu + (bits >> 13 & 1u)) >> 13;
    return __builtin_convertvector(x < 0x1p-14f ? subnormal : normal, Halves);
}

template <int64_t N>
struct Lanes {
    static constexpr int64_t count = N;
};

// step(Lanes, i) for the vectors of a row, and begin_line(i) before each cache line of them. Single voxels are vectors
// of one lane: those before the first whole line of what is written, and those after the last.
template <class T, class Begin, class Step>
inline void for_vectors(const T* written, int64_t count, const Begin& begin_line, const Step& step) {
    constexpr int64_t item = sizeof(T), alignment = 64;
    const int64_t lead = static_cast<int64_t>((0 - reinterpret_cast<uintptr_t>(written)) % alignment) / item;
    int64_t i = 0;
    for (; i < lead && i < count; ++i) step(Lanes<1>{}, i);
    for (; i + line <= count; i += line) {
        begin_line(i);
        for (int64_t n = 0; n < line; n += lanes) step(Lanes<lanes>{}, i + n);
    }
    for (; i < count; ++i) step(Lanes<1>{}, i);
}

}  // namespace
}  // namespace mixpriv
