// AVX2 and F16C, 8 voxels at a time. Products and sums stay separate (no FMA): the result is the baseline's.

#include "rows_avx2.h"

#include <immintrin.h>

#include <cstring>

#include "mixpriv/rows.h"

namespace mixpriv {
namespace {

#include "rows_plain.inc"

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

template <bool stream>
inline void store(float* p, __m256 x) {
    if (stream)
        _mm256_stream_ps(p, x);
    else
        _mm256_storeu_ps(p, x);
}

template <bool stream>
inline void store_halves(uint16_t* p, __m256 low, __m256 high) {
    const __m256i x = _mm256_set_m128i(_mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT),
                                       _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    if (stream)
        _mm256_stream_si256(reinterpret_cast<__m256i*>(p), x);
    else
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
}

inline __m256 weighted_target(const MixRow& row, int64_t i) {
    const __m256 shifted = _mm256_sub_ps(_mm256_loadu_ps(row.target + i), _mm256_set1_ps(row.lo));
    const __m256 t = clip01(_mm256_mul_ps(shifted, _mm256_set1_ps(row.scale)));
    return _mm256_mul_ps(_mm256_set1_ps(row.weight), zero_where_mask_is_zero(t, row.target_mask + i));
}

inline __m256 mixed(const MixRow& row, int64_t i) {
    const __m256 r = zero_where_mask_is_zero(clip01(_mm256_loadu_ps(row.reference + i)), row.reference_mask + i);
    return _mm256_add_ps(weighted_target(row, i), _mm256_mul_ps(_mm256_set1_ps(row.rest), r));
}

template <bool stream>
void mix_rows(const MixRow& given, int64_t count) {
    const MixRow row = given;
    if (row.reference == nullptr) {
        for (int64_t i = 0; i < count; i += 16)
            store_halves<stream>(row.mixture + i, weighted_target(row, i), weighted_target(row, i + 8));
        return;
    }
    for (int64_t i = 0; i < count; i += 16) {
        avx2::fetch_ahead(row.target + i);
        avx2::fetch_ahead(row.reference + i);
        avx2::fetch_ahead(row.target_mask + i);
        avx2::fetch_ahead(row.reference_mask + i);
        store_halves<stream>(row.mixture + i, mixed(row, i), mixed(row, i + 8));
    }
}

void mix(const MixRow& row, int64_t count) {
    row.stream ? mix_rows<true>(row, count) : mix_rows<false>(row, count);
}

inline __m256 where_label(const uint8_t* labels, uint8_t label, __m256 x) {
    const __m256i hit = _mm256_cmpeq_epi32(load8_epi32(labels), _mm256_set1_epi32(label));
    return _mm256_and_ps(_mm256_castsi256_ps(hit), x);
}

// See the baseline for the division by 255.
template <bool stream>
inline void store_unmixed(const UnmixRow& row, int64_t i, __m256i bytes) {
    const __m256 b = _mm256_cvtepi32_ps(bytes);
    const __m256 p = _mm256_add_ps(_mm256_mul_ps(b, _mm256_set1_ps(257.0f / 65536.0f)),
                                   _mm256_mul_ps(b, _mm256_set1_ps(1.0f / 16711680.0f)));
    const __m256 known = where_label(row.reference_labels + i, row.label, _mm256_set1_ps(row.rest));
    const __m256 share = _mm256_div_ps(_mm256_sub_ps(p, known), _mm256_set1_ps(row.weight));
    store<stream>(row.unmixed + i, _mm256_min_ps(_mm256_max_ps(share, _mm256_set1_ps(-1.0f)), _mm256_set1_ps(2.0f)));
}

template <bool stream>
void unmix_rows(const UnmixRow& given, const uint8_t* answer, uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(answer + i));
        __m256i* const total = reinterpret_cast<__m256i*>(sum + i);
        _mm256_storeu_si256(total, _mm256_add_epi16(_mm256_loadu_si256(total), _mm256_cvtepu8_epi16(bytes)));
        store_unmixed<stream>(row, i, _mm256_cvtepu8_epi32(bytes));
        store_unmixed<stream>(row, i + 8, _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes)));
    }
}

void unmix(const UnmixRow& row, const uint8_t* answer, uint16_t* sum, int64_t count) {
    row.stream ? unmix_rows<true>(row, answer, sum, count) : unmix_rows<false>(row, answer, sum, count);
}

template <bool stream>
void unmix_background_rows(const UnmixRow& given, const uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 8) {
        const __m128i total = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sum + i));
        store_unmixed<stream>(row, i, _mm256_cvtepu16_epi32(_mm_subs_epu16(_mm_set1_epi16(255), total)));
    }
}

void unmix_background(const UnmixRow& row, const uint16_t* sum, int64_t count) {
    row.stream ? unmix_background_rows<true>(row, sum, count) : unmix_background_rows<false>(row, sum, count);
}

template <bool stream>
void one_hot_rows(const UnmixRow& given, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 8)
        store<stream>(row.unmixed + i, where_label(row.reference_labels + i, row.label, _mm256_set1_ps(1.0f)));
}

void one_hot(const UnmixRow& row, int64_t count) {
    row.stream ? one_hot_rows<true>(row, count) : one_hot_rows<false>(row, count);
}

void fill_weight(const UnmixRow& row, int64_t count) {
    const __m256 weight = _mm256_set1_ps(row.weight);
    for (int64_t i = 0; i < count; i += 8)
        row.stream ? store<true>(row.unmixed + i, weight) : store<false>(row.unmixed + i, weight);
}

inline __m256 class_value(const ArgmaxRow& row, int64_t at) {
    const __m256 p = _mm256_loadu_ps(row.probabilities + at);
    return row.last == nullptr ? p : _mm256_add_ps(p, _mm256_loadu_ps(row.last + at));
}

// Four vectors of numbers below 256 to 32 bytes.
inline __m256i narrow(const __m256i* x) {
    const __m256i low = _mm256_packs_epi32(x[0], x[1]), high = _mm256_packs_epi32(x[2], x[3]);
    const __m256i bytes = _mm256_packus_epi16(low, high);
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

inline void count(__m256 hits, __m256i* counter) {
    *counter = _mm256_sub_epi32(*counter, _mm256_castps_si256(hits));
}

// Counts what is below the bracket and returns where x is in it; NaN is neither.
inline __m256 count_end(__m256 x, __m256 low, __m256 high, __m256i* below) {
    count(_mm256_cmp_ps(x, low, _CMP_LT_OQ), below);
    return _mm256_and_ps(_mm256_cmp_ps(x, low, _CMP_GE_OQ), _mm256_cmp_ps(x, high, _CMP_LE_OQ));
}

inline int64_t sum_of(__m256i x) {
    uint32_t lanes[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), x);
    int64_t sum = 0;
    for (const uint32_t n : lanes) sum += n;
    return sum;
}

inline void collect(const float* x, int which, Bracket* end) {
    for (int n = 0; n < 8; ++n)
        if ((which >> n & 1) != 0) {
            if (end->found < end->room) end->in_it[end->found] = x[n];
            ++end->found;
        }
}

void finish() {
    _mm_sfence();
}

}  // namespace

namespace avx2 {

void argmax(const ArgmaxRow& row, int64_t count) {
    for (int64_t i = 0; i < count; i += 32) {
        __m256 best[4];
        __m256i label[4];
        for (int n = 0; n < 4; n += 2) fetch_ahead(row.probabilities + i + 8 * n);
        for (int n = 0; n < 4; ++n) best[n] = class_value(row, i + 8 * n);
        for (int n = 0; n < 4; ++n) label[n] = _mm256_setzero_si256();
        for (int64_t c = 1; c < row.classes; ++c) {
            const __m256i candidate = _mm256_set1_epi32(static_cast<int>(c));
            for (int n = 0; n < 4; n += 2) fetch_ahead(row.probabilities + c * row.channel + i + 8 * n);
            for (int n = 0; n < 4; ++n) {
                const __m256 value = class_value(row, c * row.channel + i + 8 * n);
                const __m256 better = _mm256_cmp_ps(value, best[n], _CMP_GT_OQ);
                best[n] = _mm256_max_ps(value, best[n]);
                label[n] = _mm256_blendv_epi8(label[n], candidate, _mm256_castps_si256(better));
            }
        }
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(row.labels + i), narrow(label));
    }
}

// In blocks: a first loop notes, without a choice, which vectors hold a voxel of a bracket, a second one collects them.
template <bool masked>
void tally_rows(const float* image, const uint8_t* mask, int64_t length, Tally* found) {
    constexpr int64_t block = 8 * 256;
    const __m256i all = _mm256_set1_epi32(-1);
    const __m256 low[2] = {_mm256_set1_ps(found->end[0].low), _mm256_set1_ps(found->end[1].low)};
    const __m256 high[2] = {_mm256_set1_ps(found->end[0].high), _mm256_set1_ps(found->end[1].high)};
    __m256i inside = _mm256_setzero_si256(), finite = inside, below[2] = {inside, inside};
    struct {
        uint16_t vector;
        uint8_t first, second;
    } hits[block / 8];
    for (int64_t begin = 0; begin < length; begin += block) {
        const int64_t end = length - begin < block ? length : begin + block;
        int64_t count_of_hits = 0;
        for (int64_t i = begin; i < end; i += 8) {
            if (masked && i % 32 == 0) {
                const __m256i group = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask + i));
                if (_mm256_testz_si256(group, group) != 0) {
                    i += 24;
                    continue;
                }
            }
            if (i % 16 == 0) fetch_ahead(image + i);
            __m256 x = _mm256_loadu_ps(image + i);
            if (masked) {
                const __m256i outside = _mm256_cmpeq_epi32(load8_epi32(mask + i), _mm256_setzero_si256());
                x = _mm256_or_ps(x, _mm256_castsi256_ps(outside));  // NaN outside
                inside = _mm256_add_epi32(inside, _mm256_sub_epi32(outside, all));
            }
            count(_mm256_cmp_ps(_mm256_sub_ps(x, x), _mm256_setzero_ps(), _CMP_EQ_OQ), &finite);
            const int first = _mm256_movemask_ps(count_end(x, low[0], high[0], &below[0]));
            const int second = _mm256_movemask_ps(count_end(x, low[1], high[1], &below[1]));
            hits[count_of_hits] = {static_cast<uint16_t>((i - begin) / 8), static_cast<uint8_t>(first),
                                   static_cast<uint8_t>(second)};
            count_of_hits += (first | second) != 0 ? 1 : 0;
        }
        for (int64_t h = 0; h < count_of_hits; ++h) {
            const float* const at = image + begin + 8 * hits[h].vector;
            collect(at, hits[h].first, &found->end[0]);
            collect(at, hits[h].second, &found->end[1]);
        }
    }
    found->inside += masked ? sum_of(inside) : length;
    found->finite += sum_of(finite);
    for (int e = 0; e < 2; ++e) found->end[e].below += sum_of(below[e]);
}

void tally(const float* image, const uint8_t* mask, int64_t length, Tally* found) {
    mask == nullptr ? tally_rows<false>(image, mask, length, found) : tally_rows<true>(image, mask, length, found);
}

}  // namespace avx2

const RowKernels avx2_rows{mix,     unmix,        unmix_background, one_hot, fill_weight, avx2::argmax, avx2::tally,
                           softmax, accumulate,   normalise,        pick,    locate,      bend,         bend_nearest,
                           blend,   blend_voxels, mix_exact,        finish};

}  // namespace mixpriv
