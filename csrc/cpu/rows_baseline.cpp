// Plain C++: defines the result that the vector versions must equal bit by bit.

#include <cstring>

#include "mixpriv/rows.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace mixpriv {
namespace {

#include "rows_plain.inc"

// binary32 in 0..1 to binary16, round to nearest even.
uint16_t to_half(float x) {
    const float shifted = x + 0.5f;  // below 2^-14 the sum's last bit is binary16's subnormal step: the adder rounds
    uint32_t bits, subnormal;
    std::memcpy(&bits, &x, sizeof bits);
    std::memcpy(&subnormal, &shifted, sizeof subnormal);
    const uint32_t rebias = 0u - (112u << 23);
    const uint32_t normal = (bits + rebias + 0xFFFu + ((bits >> 13) & 1u)) >> 13;
    return static_cast<uint16_t>(x < 0x1p-14f ? subnormal - 0x3F000000u : normal);
}

// Loads come before the choice, and no choice is left in the loops: compilers can then vectorise them.
float weighted(float x, uint8_t mask, float weight) {
    return weight * (mask != 0 ? x : 0.0f);
}

void mix(const MixRow& given, int64_t count) {
    const MixRow row = given;
    if (row.reference == nullptr) {
        for (int64_t i = 0; i < count; ++i)
            row.mixture[i] =
                to_half(weighted(clip01((row.target[i] - row.lo) * row.scale), row.target_mask[i], row.weight));
        return;
    }
    for (int64_t i = 0; i < count; ++i) {
        const float t = weighted(clip01((row.target[i] - row.lo) * row.scale), row.target_mask[i], row.weight);
        const float r = weighted(clip01(row.reference[i]), row.reference_mask[i], row.rest);
        row.mixture[i] = to_half(t + r);
    }
}

// The division by 255 is a sum of two products: for every byte it rounds to the same bits.
float unmixed(int bytes, float known, float weight) {
    const float p = static_cast<float>(bytes) * (257.0f / 65536.0f) + static_cast<float>(bytes) * (1.0f / 16711680.0f);
    const float share = (p - known) / weight;
    const float above = share > -1.0f ? share : -1.0f;
    return above < 2.0f ? above : 2.0f;
}

void unmix(const UnmixRow& given, const uint8_t* answer, uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; ++i) {
        row.unmixed[i] = unmixed(answer[i], row.reference_labels[i] == row.label ? row.rest : 0.0f, row.weight);
        sum[i] = static_cast<uint16_t>(sum[i] + answer[i]);
    }
}

void unmix_background(const UnmixRow& given, const uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; ++i) {
        const int bytes = sum[i] < 255 ? 255 - sum[i] : 0;
        row.unmixed[i] = unmixed(bytes, row.reference_labels[i] == row.label ? row.rest : 0.0f, row.weight);
    }
}

void one_hot(const UnmixRow& given, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; ++i) row.unmixed[i] = row.reference_labels[i] == row.label ? 1.0f : 0.0f;
}

void fill_weight(const UnmixRow& given, int64_t count) {
    const UnmixRow row = given;
    for (int64_t i = 0; i < count; ++i) row.unmixed[i] = row.weight;
}

void argmax(const ArgmaxRow& row, int64_t count) {
    for (int64_t i = 0; i < count; ++i) row.labels[i] = 0;
    float best[cell_block], value[cell_block];
    for (int64_t begin = 0; begin < count; begin += cell_block) {
        const int64_t length = count - begin < cell_block ? count - begin : cell_block;
        for (int64_t c = 0; c < row.classes; ++c) {
            const float* const p = row.probabilities + c * row.channel + begin;
            float* const out = c == 0 ? best : value;
            std::memcpy(out, p, static_cast<size_t>(length) * sizeof *p);
            if (row.last != nullptr) accumulate(out, row.last + c * row.channel + begin, length);
            if (c > 0) pick(value, best, row.labels + begin, static_cast<uint8_t>(c), length);
        }
    }
}

void tally_end(float x, Bracket* end) {
    end->below += x < end->low ? 1 : 0;
    if (x >= end->low && x <= end->high) {
        if (end->found < end->room) end->in_it[end->found] = x;
        ++end->found;
    }
}

void tally(const float* image, const uint8_t* mask, int64_t count, Tally* found) {
    for (int64_t i = 0; i < count; ++i) {
        if (mask != nullptr && mask[i] == 0) continue;
        const float x = image[i];
        ++found->inside;
        found->finite += x - x == 0.0f ? 1 : 0;
        tally_end(x, &found->end[0]);
        tally_end(x, &found->end[1]);
    }
}

void finish() {}

}  // namespace

const RowKernels baseline_rows{mix,     unmix,        unmix_background, one_hot, fill_weight, argmax, tally,
                               softmax, accumulate,   normalise,        pick,    locate,      bend,   bend_nearest,
                               blend,   blend_voxels, mix_exact,        finish};

}  // namespace mixpriv
