// Mixing target and reference in one pass; with a warp, bending the mixture in a second one.

#include <algorithm>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"
#include "scratch.h"
#include "spline.h"
#include "spread.h"

namespace mixpriv {
namespace {

struct Mixing {
    MixInput in;
    float lo, scale, weight, rest;
    uint16_t* mixture;
    bool stream;
};

Mixing checked(const MixInput& input, uint16_t* mixture, int64_t count) {
    if (!(input.weight >= 0.0 && input.weight <= 1.0)) throw InputError("weight: expected a number from 0 to 1");
    if (input.reference == nullptr && input.weight != 1.0)
        throw InputError("reference: expected an array unless the weight is 1, got None");
    const Normal normal = normal_of("target_range", input.target_range);
    const auto weight = static_cast<float>(input.weight);
    return {input, normal.lo, normal.scale, weight, 1.0f - weight, mixture, 2 * count >= stream_bytes};
}

// The part of all from a voxel on.
MixRow row_at(const Mixing& all, int64_t begin) {
    const bool mixed = all.in.reference != nullptr;
    return {all.in.target + begin,
            all.in.target_mask + begin,
            mixed ? all.in.reference + begin : nullptr,
            mixed ? all.in.reference_mask + begin : nullptr,
            all.mixture + begin,
            all.lo,
            all.scale,
            all.weight,
            all.rest,
            all.stream};
}

// Both images are bent alike, so their mixture is: one interpolation instead of two. What is interpolated is rounded to
// binary16 once, at the end.
void mix_bent(const RowKernels& rows, const Mixing& all, Shape3 shape, int threads) {
    const Spline spline("warp", *all.in.warp, shape);
    const Lattice lattice = lattice_of({shape, {}});
    const auto straight = scratch<float>(shape.count());
    parallel_for(shape.count(), voxel_grain, threads, [&](int64_t begin, int64_t end, int) {
        rows.mix_exact(row_at(all, begin), straight.get() + begin, end - begin);
    });
    parallel_for(shape.size[0] * shape.size[1], row_grain, threads, [&](int64_t begin, int64_t end, int) {
        SplineRows bend(spline);
        Cells cells;
        float value[cell_block];
        uint8_t inside[cell_block];
        for (int64_t index = begin; index < end; ++index) {
            bend.move_to(index / shape.size[1], index % shape.size[1]);
            for (int64_t first = 0; first < shape.size[2]; first += cell_block) {
                const int64_t count = std::min(cell_block, shape.size[2] - first);
                rows.bend(bend.row(), lattice, first, count, &cells, inside);
                rows.blend(straight.get(), lattice, cells, count, value);
                uint16_t* const out = all.mixture + index * shape.size[2] + first;
                const MixRow row{value, inside, nullptr, nullptr, out, 0.0f, 1.0f, 1.0f, 0.0f, false};
                rows.mix(row, count);
            }
        }
    });
}

}  // namespace

void mix(const MixInput& input, uint16_t* mixture, Shape3 shape, Isa isa, int threads) {
    const Mixing all = checked(input, mixture, shape.count());
    const RowKernels& rows = rows_for(isa);
    if (input.warp != nullptr) {
        mix_bent(rows, all, shape, threads);
        return;
    }
    parallel_for(shape.count(), voxel_grain, threads, [&](int64_t begin, int64_t end, int) {
        rows.mix(row_at(all, begin), end - begin);
        rows.finish();
    });
}

}  // namespace mixpriv
