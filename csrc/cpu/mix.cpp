// Mixing target and reference, warped or not, in one pass.

#include <cmath>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"
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

// A stretch of a row as `mix` takes it: the image itself, or what is interpolated of it, normalised and masked before.
struct Stretch {
    const float* image;
    const uint8_t* mask;
    float lo, scale;
};

struct Bent {
    float image[cell_block];
    uint8_t inside[cell_block];
};

struct Part {
    const float* image;
    const uint8_t* mask;
    float lo, scale;
    const SplineRows* warp;  // null: none
};

Stretch stretch_of(const RowKernels& rows, const Part& part, const Lattice& lattice, int64_t offset, int64_t first,
                   int64_t count, Bent* bent) {
    if (part.warp == nullptr || part.image == nullptr)
        return {part.image + offset, part.mask + offset, part.lo, part.scale};
    Cells cells;
    rows.bend(part.warp->row(), lattice, first, count, &cells, bent->inside);
    rows.blend_masked(part.image, part.mask, part.lo, part.scale, lattice, cells, count, bent->image);
    return {bent->image, bent->inside, 0.0f, 1.0f};
}

void mix_row(const RowKernels& rows, const Mixing& all, const Part& target, const Part& reference,
             const Lattice& lattice, int64_t offset) {
    Bent bent[2];
    for (int64_t first = 0; first < lattice.size[2]; first += cell_block) {
        const int64_t count = std::min(cell_block, lattice.size[2] - first), at = offset + first;
        const Stretch t = stretch_of(rows, target, lattice, at, first, count, &bent[0]);
        const Stretch r =
            reference.image == nullptr ? Stretch{} : stretch_of(rows, reference, lattice, at, first, count, &bent[1]);
        head_body_tail(rows, all.mixture + at, 0, count, [&](const RowKernels& kernels, int64_t from, int64_t to) {
            const MixRow row{t.image + from,
                             t.mask + from,
                             r.image == nullptr ? nullptr : r.image + from,
                             r.image == nullptr ? nullptr : r.mask + from,
                             all.mixture + at + from,
                             t.lo,
                             t.scale,
                             all.weight,
                             all.rest,
                             false};
            kernels.mix(row, to - from);
        });
    }
}

void mix_bent(const RowKernels& rows, const Mixing& all, Shape3 shape, int threads) {
    const Lattice lattice = lattice_of({shape, {}});
    const Spline splines[2] = {Spline("target_warp", all.in.target_warp, shape),
                               Spline("reference_warp", all.in.reference_warp, shape)};
    parallel_for(shape.size[0] * shape.size[1], row_grain, threads, [&](int64_t begin, int64_t end, int) {
        SplineRows bends[2] = {SplineRows(splines[0]), SplineRows(splines[1])};
        const Part target{all.in.target, all.in.target_mask, all.lo, all.scale,
                          all.in.target_warp == nullptr ? nullptr : &bends[0]};
        const Part reference{all.in.reference, all.in.reference_mask, 0.0f, 1.0f,
                             all.in.reference_warp == nullptr ? nullptr : &bends[1]};
        for (int64_t index = begin; index < end; ++index) {
            for (SplineRows& bend : bends) bend.move_to(index / shape.size[1], index % shape.size[1]);
            mix_row(rows, all, target, reference, lattice, index * shape.size[2]);
        }
    });
}

}  // namespace

void mix(const MixInput& input, uint16_t* mixture, Shape3 shape, Isa isa, int threads) {
    const Mixing all = checked(input, mixture, shape.count());
    const RowKernels& rows = rows_for(isa);
    if (input.target_warp != nullptr || input.reference_warp != nullptr) {
        mix_bent(rows, all, shape, threads);
        return;
    }
    parallel_for(shape.count(), voxel_grain, threads, [&](int64_t begin, int64_t end, int) {
        mix_straight(rows, all, begin, end);
        rows.finish();
    });
}

}  // namespace mixpriv
