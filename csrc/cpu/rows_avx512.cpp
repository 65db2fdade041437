// AVX-512 F, BW and VL, 16 voxels at a time. Products and sums stay separate (no FMA): the result is the baseline's.

#include <immintrin.h>

#include <cstring>

#include "mixpriv/rows.h"
#include "rows_avx2.h"

namespace mixpriv {
namespace {

#include "rows_plain.inc"

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

template <bool stream>
inline void store(float* p, __m512 x) {
    if (stream)
        _mm512_stream_ps(p, x);
    else
        _mm512_storeu_ps(p, x);
}

template <bool stream>
inline void store_halves(uint16_t* p, __m512 low, __m512 high) {
    const __m512i first = _mm512_castsi256_si512(_mm512_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    const __m512i x = _mm512_inserti64x4(first, _mm512_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT), 1);
    if (stream)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(p), x);
    else
        _mm512_storeu_si512(p, x);
}

inline __m512 weighted_target(const MixRow& row, int64_t i) {
    const __m512 shifted = _mm512_sub_ps(_mm512_loadu_ps(row.target + i), _mm512_set1_ps(row.lo));
    const __m512 t = clip01(_mm512_mul_ps(shifted, _mm512_set1_ps(row.scale)));
    return _mm512_maskz_mul_ps(inside(row.target_mask + i), _mm512_set1_ps(row.weight), t);
}

inline __m512 mixed(const MixRow& row, int64_t i) {
    const __m512 r = clip01(_mm512_loadu_ps(row.reference + i));
    const __m512 rest = _mm512_maskz_mul_ps(inside(row.reference_mask + i), _mm512_set1_ps(row.rest), r);
    return _mm512_add_ps(weighted_target(row, i), rest);
}

template <bool stream>
void mix_rows(const MixRow& given, int64_t count) {
    const MixRow row = given;
    if (row.reference == nullptr) {
        for (int64_t i = 0; i < count; i += 32)
            store_halves<stream>(row.mixture + i, weighted_target(row, i), weighted_target(row, i + 16));
        return;
    }
    for (int64_t i = 0; i < count; i += 32) {
        for (int64_t line = 0; line < 32; line += 16) {
            avx2::fetch_ahead(row.target + i + line);
            avx2::fetch_ahead(row.reference + i + line);
        }
        avx2::fetch_ahead(row.target_mask + i);
        avx2::fetch_ahead(row.reference_mask + i);
        store_halves<stream>(row.mixture + i, mixed(row, i), mixed(row, i + 16));
    }
}

void mix(const MixRow& row, int64_t count) {
    row.stream ? mix_rows<true>(row, count) : mix_rows<false>(row, count);
}

inline __m512 where_label(const uint8_t* labels, uint8_t label, __m512 x) {
    const __m128i wanted = _mm_set1_epi8(static_cast<char>(label));
    return _mm512_maskz_mov_ps(_mm_cmpeq_epi8_mask(load16_epi8(labels), wanted), x);
}

// See the baseline for the division by 255.
template <bool stream>
inline void store_unmixed(const UnmixRow& row, int64_t i, __m512i bytes) {
    const __m512 b = _mm512_cvtepi32_ps(bytes);
    const __m512 p = _mm512_add_ps(_mm512_mul_ps(b, _mm512_set1_ps(257.0f / 65536.0f)),
                                   _mm512_mul_ps(b, _mm512_set1_ps(1.0f / 16711680.0f)));
    const __m512 known = where_label(row.reference_labels + i, row.label, _mm512_set1_ps(row.rest));
    const __m512 share = _mm512_div_ps(_mm512_sub_ps(p, known), _mm512_set1_ps(row.weight));
    store<stream>(row.unmixed + i, _mm512_min_ps(_mm512_max_ps(share, _mm512_set1_ps(-1.0f)), _mm512_set1_ps(2.0f)));
}

template <bool stream>
void unmix_rows(const UnmixRow& given, const uint8_t* answer, uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 16) {
        const __m128i bytes = load16_epi8(answer + i);
        __m256i* const total = reinterpret_cast<__m256i*>(sum + i);
        _mm256_storeu_si256(total, _mm256_add_epi16(_mm256_loadu_si256(total), _mm256_cvtepu8_epi16(bytes)));
        store_unmixed<stream>(row, i, _mm512_cvtepu8_epi32(bytes));
    }
}

void unmix(const UnmixRow& row, const uint8_t* answer, uint16_t* sum, int64_t count) {
    row.stream ? unmix_rows<true>(row, answer, sum, count) : unmix_rows<false>(row, answer, sum, count);
}

template <bool stream>
void unmix_background_rows(const UnmixRow& given, const uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 16) {
        const __m256i total = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sum + i));
        store_unmixed<stream>(row, i, _mm512_cvtepu16_epi32(_mm256_subs_epu16(_mm256_set1_epi16(255), total)));
    }
}

void unmix_background(const UnmixRow& row, const uint16_t* sum, int64_t count) {
    row.stream ? unmix_background_rows<true>(row, sum, count) : unmix_background_rows<false>(row, sum, count);
}

template <bool stream>
void one_hot_rows(const UnmixRow& given, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; i += 16)
        store<stream>(row.unmixed + i, where_label(row.reference_labels + i, row.label, _mm512_set1_ps(1.0f)));
}

void one_hot(const UnmixRow& row, int64_t count) {
    row.stream ? one_hot_rows<true>(row, count) : one_hot_rows<false>(row, count);
}

void fill_weight(const UnmixRow& row, int64_t count) {
    const __m512 weight = _mm512_set1_ps(row.weight);
    for (int64_t i = 0; i < count; i += 16)
        row.stream ? store<true>(row.unmixed + i, weight) : store<false>(row.unmixed + i, weight);
}

inline void count(__mmask16 hits, __m512i* counter) {
    *counter = _mm512_mask_add_epi32(*counter, hits, *counter, _mm512_set1_epi32(1));
}

// One end in 16 voxels: counts those below the bracket, returns those in it. NaN is neither.
inline __mmask16 in_bracket(__mmask16 in, __m512 x, __m512 low, __m512 high, __m512i* below) {
    const __mmask16 is_below = _mm512_mask_cmp_ps_mask(in, x, low, _CMP_LT_OQ);
    count(is_below, below);
    return static_cast<__mmask16>(_mm512_mask_cmp_ps_mask(in, x, high, _CMP_LE_OQ) & ~is_below);
}

// Whole vectors are written, whatever of them was found.
inline void collect(__mmask16 found, __m512 x, Bracket* end) {
    if (end->found <= end->room) _mm512_storeu_ps(end->in_it + end->found, _mm512_maskz_compress_ps(found, x));
    end->found += __builtin_popcount(found);
}

inline int64_t sum_of(__m512i x) {
    uint32_t lanes[16];
    _mm512_storeu_si512(lanes, x);
    int64_t sum = 0;
    for (const uint32_t n : lanes) sum += n;
    return sum;
}

// In blocks: a first loop notes, without a choice, which vectors hold a voxel of a bracket, a second one collects them.
template <bool masked>
void tally_rows(const float* image, const uint8_t* mask, int64_t length, Tally* all) {
    constexpr int64_t block = 16 * 256;
    Bracket first = all->end[0], second = all->end[1];
    const __m512 low[2] = {_mm512_set1_ps(first.low), _mm512_set1_ps(second.low)};
    const __m512 high[2] = {_mm512_set1_ps(first.high), _mm512_set1_ps(second.high)};
    __m512i voxels = _mm512_setzero_si512(), finite = voxels, below[2] = {voxels, voxels};
    struct {
        uint16_t vector;
        __mmask16 first, second;
    } hits[block / 16];
    for (int64_t begin = 0; begin < length; begin += block) {
        const int64_t end = length - begin < block ? length : begin + block;
        int64_t count_of_hits = 0;
        for (int64_t i = begin; i < end; i += 16) {
            const __mmask16 in = masked ? inside(mask + i) : static_cast<__mmask16>(0xFFFF);
            if (masked && in == 0) continue;
            avx2::fetch_ahead(image + i);
            const __m512 x = _mm512_loadu_ps(image + i);
            if (masked) count(in, &voxels);
            count(_mm512_mask_cmp_ps_mask(in, _mm512_sub_ps(x, x), _mm512_setzero_ps(), _CMP_EQ_OQ), &finite);
            const __mmask16 one = in_bracket(in, x, low[0], high[0], &below[0]);
            const __mmask16 other = in_bracket(in, x, low[1], high[1], &below[1]);
            hits[count_of_hits] = {static_cast<uint16_t>((i - begin) / 16), one, other};
            count_of_hits += (one | other) != 0 ? 1 : 0;
        }
        for (int64_t h = 0; h < count_of_hits; ++h) {
            const __m512 x = _mm512_loadu_ps(image + begin + 16 * hits[h].vector);
            collect(hits[h].first, x, &first);
            collect(hits[h].second, x, &second);
        }
    }
    all->inside += masked ? sum_of(voxels) : length;
    all->finite += sum_of(finite);
    first.below += sum_of(below[0]);
    second.below += sum_of(below[1]);
    all->end[0] = first;
    all->end[1] = second;
}

void tally(const float* image, const uint8_t* mask, int64_t length, Tally* found) {
    mask == nullptr ? tally_rows<false>(image, mask, length, found) : tally_rows<true>(image, mask, length, found);
}

void finish() {
    _mm_sfence();
}

}  // namespace

const RowKernels avx512_rows{mix,     unmix,        unmix_background, one_hot, fill_weight, avx2::argmax, tally,
                             softmax, accumulate,   normalise,        pick,    locate,      bend,         bend_nearest,
                             blend,   blend_voxels, mix_exact,        finish};

}  // namespace mixpriv
