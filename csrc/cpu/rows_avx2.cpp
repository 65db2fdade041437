// AVX2 and F16C, 8 voxels at a time. Products and sums stay separate (no FMA): the result is the baseline's.

#include <immintrin.h>

#include "mixpriv/rows.h"

namespace mixpriv {
namespace {

// max returns its second operand for NaN: NaN becomes 0.
inline __m256 clip01(__m256 x) {
    return _mm256_min_ps(_mm256_max_ps(x, _mm256_setzero_ps()), _mm256_set1_ps(1.0f));
}

inline __m256i load8_epi32(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

inline __m256 zero_where_mask_is_zero(__m256 x, const uint8_t* mask) {
    const __m256i outside = _mm256_cmpeq_epi32(load8_epi32(mask), _mm256_setzero_si256());
    return _mm256_andnot_ps(_mm256_castsi256_ps(outside), x);
}

inline void store_half(uint16_t* p, __m256 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

inline __m256 weighted_target(const MixRow& row, int64_t i) {
    const __m256 shifted = _mm256_sub_ps(_mm256_loadu_ps(row.target + i), _mm256_set1_ps(row.lo));
    const __m256 t = clip01(_mm256_mul_ps(shifted, _mm256_set1_ps(row.scale)));
    return _mm256_mul_ps(_mm256_set1_ps(row.weight), zero_where_mask_is_zero(t, row.target_mask + i));
}

void mix(const MixRow& row, int64_t count) {
    if (row.reference == nullptr) {
        for (int64_t i = 0; i < count; i += 8) store_half(row.mixture + i, weighted_target(row, i));
        return;
    }
    for (int64_t i = 0; i < count; i += 8) {
        const __m256 r = zero_where_mask_is_zero(clip01(_mm256_loadu_ps(row.reference + i)), row.reference_mask + i);
        const __m256 rest = _mm256_mul_ps(_mm256_set1_ps(row.rest), r);
        store_half(row.mixture + i, _mm256_add_ps(weighted_target(row, i), rest));
    }
}

inline __m256 where_label(const uint8_t* labels, uint8_t label, __m256 x) {
    const __m256i hit = _mm256_cmpeq_epi32(load8_epi32(labels), _mm256_set1_epi32(label));
    return _mm256_and_ps(_mm256_castsi256_ps(hit), x);
}

inline void store_unmixed(const UnmixRow& row, int64_t i, __m256i bytes) {
    const __m256 p = _mm256_div_ps(_mm256_cvtepi32_ps(bytes), _mm256_set1_ps(255.0f));
    const __m256 known = where_label(row.reference_labels + i, row.label, _mm256_set1_ps(row.rest));
    const __m256 share = _mm256_div_ps(_mm256_sub_ps(p, known), _mm256_set1_ps(row.weight));
    const __m256 clipped = _mm256_min_ps(_mm256_max_ps(share, _mm256_set1_ps(-1.0f)), _mm256_set1_ps(2.0f));
    _mm256_storeu_ps(row.unmixed + i, clipped);
}

void unmix(const UnmixRow& given, const uint8_t* answer, uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(answer + i));
        __m256i* const total = reinterpret_cast<__m256i*>(sum + i);
        _mm256_storeu_si256(total, _mm256_add_epi16(_mm256_loadu_si256(total), _mm256_cvtepu8_epi16(bytes)));
        store_unmixed(row, i, _mm256_cvtepu8_epi32(bytes));
        store_unmixed(row, i + 8, _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes)));
    }
}

void unmix_background(const UnmixRow& given, const uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 8) {
        const __m128i total = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sum + i));
        store_unmixed(row, i, _mm256_cvtepu16_epi32(_mm_subs_epu16(_mm_set1_epi16(255), total)));
    }
}

void one_hot(const uint8_t* labels, uint8_t label, float* channel, int64_t count) {
    for (int64_t i = 0; i < count; i += 8)
        _mm256_storeu_ps(channel + i, where_label(labels + i, label, _mm256_set1_ps(1.0f)));
}

}  // namespace

const RowKernels avx2_rows{mix, unmix, unmix_background, one_hot};

}  // namespace mixpriv
