// Plain C++: defines the result that the vector versions must equal bit by bit.

#include <cstring>

#include "mixpriv/rows.h"

namespace mixpriv {
namespace {

// NaN becomes 0, as in the vector versions.
float clip01(float x) {
    const float positive = x > 0.0f ? x : 0.0f;
    return positive < 1.0f ? positive : 1.0f;
}

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

float unmixed(int bytes, float known, float weight) {
    const float share = (static_cast<float>(bytes) / 255.0f - known) / weight;
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

void one_hot(const uint8_t* labels, uint8_t label, float* channel, int64_t count) {
    for (int64_t i = 0; i < count; ++i) channel[i] = labels[i] == label ? 1.0f : 0.0f;
}

}  // namespace

const RowKernels baseline_rows{mix, unmix, unmix_background, one_hot};

}  // namespace mixpriv
