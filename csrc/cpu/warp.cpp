// Volumes bent by a control grid: channels trilinearly, labels to the nearest voxel.

#include "mixpriv/kernels.h"
#include "spline.h"
#include "spread.h"

namespace mixpriv {
namespace {

// visit(bend, offset of the row) for every row of a grid.
template <class Visit>
void for_bent_rows(const Spline& spline, Shape3 shape, int threads, const Visit& visit) {
    parallel_for(shape.size[0] * shape.size[1], row_grain, threads, [&](int64_t begin, int64_t end, int) {
        SplineRows bend(spline);
        for (int64_t index = begin; index < end; ++index) {
            bend.move_to(index / shape.size[1], index % shape.size[1]);
            visit(bend.row(), index * shape.size[2]);
        }
    });
}

// first += 1 - sum of the channels
void complete(float* first, int64_t channels, int64_t stride, int64_t count) {
    float sum[cell_block];
    std::copy_n(first, count, sum);
    for (int64_t c = 1; c < channels; ++c)
        for (int64_t k = 0; k < count; ++k) sum[k] += first[c * stride + k];
    for (int64_t k = 0; k < count; ++k) first[k] += 1.0f - sum[k];
}

}  // namespace

void warp(const float* channels, int64_t count, Shape3 shape, const Warp& by, bool fill_background, float* result,
          Isa isa, int threads) {
    const Spline spline("control", &by, shape);
    const Lattice lattice = lattice_of({shape, {}});
    const RowKernels& rows = rows_for(isa);
    const int64_t stride = shape.count();
    for_bent_rows(spline, shape, threads, [&](const BentRow& row, int64_t offset) {
        Cells cells;
        uint8_t inside[cell_block];
        for (int64_t first = 0; first < shape.size[2]; first += cell_block) {
            const int64_t length = std::min(cell_block, shape.size[2] - first);
            float* const out = result + offset + first;
            rows.bend(row, lattice, first, length, &cells, inside);
            for (int64_t c = 0; c < count; ++c) {
                rows.blend(channels + c * stride, lattice, cells, length, out + c * stride);
                for (int64_t k = 0; k < length; ++k) out[c * stride + k] = inside[k] != 0 ? out[c * stride + k] : 0.0f;
            }
            if (fill_background) complete(out, count, stride, length);
        }
    });
}

void warp_labels(const uint8_t* labels, Shape3 shape, const Warp& by, uint8_t* result, Isa isa, int threads) {
    const Spline spline("control", &by, shape);
    const Lattice lattice = lattice_of({shape, {}});
    const RowKernels& rows = rows_for(isa);
    for_bent_rows(spline, shape, threads, [&](const BentRow& row, int64_t offset) {
        int64_t voxel[cell_block];
        uint8_t inside[cell_block];
        for (int64_t first = 0; first < shape.size[2]; first += cell_block) {
            const int64_t length = std::min(cell_block, shape.size[2] - first);
            uint8_t* const out = result + offset + first;
            rows.bend_nearest(row, lattice, first, length, voxel, inside);
            for (int64_t k = 0; k < length; ++k) out[k] = inside[k] != 0 ? labels[voxel[k]] : uint8_t{0};
        }
    });
}

}  // namespace mixpriv
