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

void mix_straight(const RowKernels& rows, const Mixing& all, int64_t begin, int64_t end) {
    head_body_tail(rows, all.mixture, begin, end, [&](const RowKernels& kernels, int64_t first, int64_t last) {
        const bool mixed = all.in.reference != nullptr;
        const MixRow row{all.in.target + first,
                         all.in.target_mask + first,
                         mixed ? all.in.reference + first : nullptr,
                         mixed ? all.in.reference_mask + first : nullptr,
                         all.mixture + first,
                         all.lo,
                         all.scale,
                         all.weight,
                         all.rest,
                         all.stream};
        kernels.mix(row, last - first);
    });
}

// As `mix_straight`, but in binary32: what is interpolated is rounded once, at the end.
void mix_exact(const RowKernels& rows, const Mixing& all, float* mixture, int64_t begin, int64_t end) {
    const bool mixed = all.in.reference != nullptr;
    const MixRow row{all.in.target + begin,
                     all.in.target_mask + begin,
                     mixed ? all.in.reference + begin : nullptr,
                     mixed ? all.in.reference_mask + begin : nullptr,
                     nullptr,
                     all.lo,
                     all.scale,
                     all.weight,
                     all.rest,
                     false};
    rows.mix_exact(row, mixture + begin, end - begin);
}

// Both images are bent alike, so their mixture is: one interpolation instead of two.
void mix_bent(const RowKernels& rows, const Mixing& all, Shape3 shape, int threads) {
    const Spline spline("warp", *all.in.warp, shape);
    const Lattice lattice = lattice_of({shape, {}});
    const auto straight = scratch<float>(shape.count());
    parallel_for(shape.count(), voxel_grain, threads,
                 [&](int64_t begin, int64_t end, int) { mix_exact(rows, all, straight.get(), begin, end); });
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
                head_body_tail(rows, out, 0, count, [&](const RowKernels& kernels, int64_t from, int64_t to) {
                    const MixRow row{value + from, inside + from, nullptr, nullptr, out + from,
                                     0.0f,         1.0f,          1.0f,    0.0f,    false};
                    kernels.mix(row, to - from);
                });
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
        mix_straight(rows, all, begin, end);
        rows.finish();
    });
}

}  // namespace mixpriv
