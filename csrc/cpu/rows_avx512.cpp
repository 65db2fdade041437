// AVX-512 F, BW and VL, 16 voxels at a time. Products and sums stay separate (no FMA): the result is the baseline's.

#include <immintrin.h>

#include "mixpriv/rows.h"

namespace mixpriv {
namespace {

// max returns its second operand for NaN: NaN becomes 0.
inline __m512 clip01(__m512 x) {
    return _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), _mm512_set1_ps(1.0f));
}

inline __m128i load16_epi8(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

inline __mmask16 inside(const uint8_t* mask) {
    const __m128i m = load16_epi8(mask);
    return _mm_test_epi8_mask(m, m);
}

inline void store_half(uint16_t* p, __m512 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

inline __m512 weighted_target(const MixRow& row, int64_t i) {
    const __m512 shifted = _mm512_sub_ps(_mm512_loadu_ps(row.target + i), _mm512_set1_ps(row.lo));
    const __m512 t = clip01(_mm512_mul_ps(shifted, _mm512_set1_ps(row.scale)));
    return _mm512_maskz_mul_ps(inside(row.target_mask + i), _mm512_set1_ps(row.weight), t);
}

void mix(const MixRow& row, int64_t count) {
    if (row.reference == nullptr) {
        for (int64_t i = 0; i < count; i += 16) store_half(row.mixture + i, weighted_target(row, i));
        return;
    }
    for (int64_t i = 0; i < count; i += 16) {
        const __m512 r = clip01(_mm512_loadu_ps(row.reference + i));
        const __m512 rest = _mm512_maskz_mul_ps(inside(row.reference_mask + i), _mm512_set1_ps(row.rest), r);
        store_half(row.mixture + i, _mm512_add_ps(weighted_target(row, i), rest));
    }
}

inline __m512 where_label(const uint8_t* labels, uint8_t label, __m512 x) {
    const __m128i wanted = _mm_set1_epi8(static_cast<char>(label));
    return _mm512_maskz_mov_ps(_mm_cmpeq_epi8_mask(load16_epi8(labels), wanted), x);
}

inline void store_unmixed(const UnmixRow& row, int64_t i, __m512i bytes) {
    const __m512 p = _mm512_div_ps(_mm512_cvtepi32_ps(bytes), _mm512_set1_ps(255.0f));
    const __m512 known = where_label(row.reference_labels + i, row.label, _mm512_set1_ps(row.rest));
    const __m512 share = _mm512_div_ps(_mm512_sub_ps(p, known), _mm512_set1_ps(row.weight));
    const __m512 clipped = _mm512_min_ps(_mm512_max_ps(share, _mm512_set1_ps(-1.0f)), _mm512_set1_ps(2.0f));
    _mm512_storeu_ps(row.unmixed + i, clipped);
}

void unmix(const UnmixRow& given, const uint8_t* answer, uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 16) {
        const __m128i bytes = load16_epi8(answer + i);
        __m256i* const total = reinterpret_cast<__m256i*>(sum + i);
        _mm256_storeu_si256(total, _mm256_add_epi16(_mm256_loadu_si256(total), _mm256_cvtepu8_epi16(bytes)));
        store_unmixed(row, i, _mm512_cvtepu8_epi32(bytes));
    }
}

void unmix_background(const UnmixRow& given, const uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 16) {
        const __m256i total = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sum + i));
        store_unmixed(row, i, _mm512_cvtepu16_epi32(_mm256_subs_epu16(_mm256_set1_epi16(255), total)));
    }
}

void one_hot(const uint8_t* labels, uint8_t label, float* channel, int64_t count) {
    for (int64_t i = 0; i < count; i += 16)
        _mm512_storeu_ps(channel + i, where_label(labels + i, label, _mm512_set1_ps(1.0f)));
}

}  // namespace

const RowKernels avx512_rows{mix, unmix, unmix_background, one_hot};

}  // namespace mixpriv
