#pragma once

// The hot loops, once per instruction set. Only plain types here: the files that include this are compiled for
// processors that may not be the one that runs, so they must not carry any shared inline function.

#include <cstdint>

namespace mixpriv {

struct MixRow {
    const float* target;
    const uint8_t* target_mask;
    const float* reference;         // null: no reference, then `weight` is 1
    const uint8_t* reference_mask;  // null as `reference`
    uint16_t* mixture;              // binary16
    float lo, scale;                // normalised = clip((target - lo) * scale, 0, 1)
    float weight, rest;             // mixture = weight * normalised + rest * clip(reference, 0, 1)
};

// One class of the linear unmixing: clip((p - rest * [reference label is `label`]) / weight, -1, 2).
struct UnmixRow {
    const uint8_t* reference_labels;
    float* unmixed;
    float weight, rest;
    uint8_t label;
};

// All over `count` consecutive voxels. Vector versions need `count` to be a multiple of row_multiple.
struct RowKernels {
    void (*mix)(const MixRow& row, int64_t count);
    void (*unmix)(const UnmixRow& row, const uint8_t* answer, uint16_t* sum, int64_t count);  // adds the answer to sum
    void (*unmix_background)(const UnmixRow& row, const uint16_t* sum, int64_t count);
    void (*one_hot)(const uint8_t* labels, uint8_t label, float* channel, int64_t count);
};

constexpr int64_t row_multiple = 16;

extern const RowKernels baseline_rows;
#ifdef MIXPRIV_X86_64
extern const RowKernels avx2_rows;
extern const RowKernels avx512_rows;
#endif

}  // namespace mixpriv
