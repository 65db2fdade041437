#pragma once

// The hot loops, once per instruction set. Only plain types here: what includes this is compiled for processors that
// may not be the one that runs, so it must not carry any shared inline function.

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
    bool stream;                    // write past the caches
};

// One class of the linear unmixing: clip((p - rest * [reference label is `label`]) / weight, -1, 2).
struct UnmixRow {
    const uint8_t* reference_labels;
    float* unmixed;
    float weight, rest;
    uint8_t label;
    bool stream;
};

// Class probabilities: soft-max of the correction and `trust` times the linear unmixing. Of the correction, voxels at
// even and at odd places lie in channels of their own, one after the other.
struct SoftmaxRow {
    const float* correction;
    int64_t blocks;       // of 2x2x2 voxels, from a channel of the correction to the next
    const float* linear;  // null: none
    float trust;
    int64_t channel;  // from a class to the next, of the linear unmixing and of the probabilities
    int64_t classes;
    float* logits;         // room for (classes, count)
    float* probabilities;  // added to them if `add`
    bool add;
};

// The first largest class of each voxel.
struct ArgmaxRow {
    const float* probabilities;
    int64_t channel;  // from a class to the next
    int64_t classes;
    uint8_t* labels;
};

// What is found of one end of a robust range: how many voxels inside the mask lie below the bracket [low, high], and
// those in it, as long as there is room.
struct Bracket {
    float low, high;
    int64_t below;
    float* in_it;
    int64_t found, room;
};

struct Tally {
    int64_t inside, finite;
    Bracket end[2];
};

// A volume: where a neighbour along an axis lies, 0 on an axis of one voxel, negative on a flipped axis.
struct Lattice {
    int64_t size[3], stride[3], next[3];
};

// Where a row of output voxels lies in a lattice: index coordinate a of voxel k is the sum, from left to right, of
// k * step[a], first[a], second[a] and third[a].
struct Line {
    double step[3], first[3], second[3], third[3];
};

constexpr int64_t cell_block = 128;
constexpr int64_t voxel_channels = 8;

// Lattice voxels around consecutive positions: offset of the lower corner, and the fractions towards the upper ones.
struct Cells {
    int64_t corner[cell_block];
    float fraction[3][cell_block];
};

// A row of voxels of a warped volume. Its displacement along axis a is sum_m weight[m][k] * coefficient[a][cell[k] +
// m].
struct BentRow {
    int64_t index[2];             // of the row: its voxel k is at (index[0], index[1], k)
    const float* coefficient[3];  // per control point along the row
    const float* weight[4];       // per voxel
    const int32_t* cell;          // per voxel, never falling
};

// All over `count` consecutive voxels.
struct RowKernels {
    void (*mix)(const MixRow& row, int64_t count);
    void (*unmix)(const UnmixRow& row, const uint8_t* answer, uint16_t* sum, int64_t count);  // adds the answer to sum
    void (*unmix_background)(const UnmixRow& row, const uint16_t* sum, int64_t count);
    void (*one_hot)(const UnmixRow& row, int64_t count);  // [reference label is `label`]
    void (*fill_weight)(const UnmixRow& row, int64_t count);
    void (*argmax)(const ArgmaxRow& row, int64_t count);
    void (*tally)(const float* image, const uint8_t* mask, int64_t count, Tally* found);
    bool (*softmax)(const SoftmaxRow& row, int64_t count);  // whether all is finite; count is even, at most cell_block
    void (*accumulate)(float* total, const float* more, int64_t count);
    void (*pick)(const float* value, float* best, uint8_t* label, uint8_t candidate, int64_t count);
    // Positions first .. first + count of a line, clamped to the lattice; count is at most cell_block.
    void (*locate)(const Line& line, const Lattice& lattice, int64_t first, int64_t count, Cells* cells);
    // Voxels first .. first + count of a bent row; inside[k] is 0 where the position is outside the lattice.
    void (*bend)(const BentRow& row, const Lattice& lattice, int64_t first, int64_t count, Cells* cells,
                 uint8_t* inside);
    // As `bend`, but the nearest voxel, or inside[k] = 0 if there is none.
    void (*bend_nearest)(const BentRow& row, const Lattice& lattice, int64_t first, int64_t count, int64_t* voxel,
                         uint8_t* inside);
    // Trilinear interpolation.
    void (*blend)(const float* image, const Lattice& lattice, const Cells& cells, int64_t count, float* out);
    // Of voxels with their channels side by side in voxel_channels bytes: each channel, rounded to the nearest.
    void (*blend_voxels)(const uint8_t* image, int64_t channels, const Lattice& lattice, const Cells& cells,
                         int64_t count, uint8_t* out);
    void (*mix_exact)(const MixRow& row, float* mixture, int64_t count);  // in binary32, not into row.mixture
    void (*finish)();  // what was streamed is there for other threads
};

// Of these the build has the baseline's and, on x86-64, the others.
extern const RowKernels baseline_rows, avx2_rows, avx512_rows;

}  // namespace mixpriv
