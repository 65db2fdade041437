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

float trilinear(const float* p, const int64_t* next, const float* f) {
    const auto along = [&](int axis, float a, float b) { return a + (b - a) * f[axis]; };
    const auto pair = [&](const float* q) { return along(2, q[0], q[next[2]]); };
    const auto face = [&](const float* q) { return along(1, pair(q), pair(q + next[1])); };
    return along(0, face(p), face(p + next[0]));
}

}  // namespace

void warp(const float* channels, int64_t count, Shape3 shape, const Warp& by, bool fill_background, float* result,
          Isa isa, int threads) {
    const Spline spline("control", by, shape);
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

void warp_answer(const uint8_t* channels, int64_t count, Shape3 shape, const Warp& by, uint8_t* result, Isa isa,
                 int threads) {
    const Spline spline("control", by, shape);
    const Lattice lattice = lattice_of({shape, {}});
    const RowKernels& rows = rows_for(isa);
    const int64_t stride = shape.count();
    for_bent_rows(spline, shape, threads, [&](const BentRow& row, int64_t offset) {
        Cells cells;
        uint8_t inside[cell_block];
        float value[cell_block];
        for (int64_t first = 0; first < shape.size[2]; first += cell_block) {
            const int64_t length = std::min(cell_block, shape.size[2] - first);
            rows.bend(row, lattice, first, length, &cells, inside);
            for (int64_t c = 0; c < count; ++c) {
                uint8_t* const out = result + c * stride + offset + first;
                rows.blend_bytes(channels + c * stride, lattice, cells, length, value);
                for (int64_t k = 0; k < length; ++k)
                    out[k] = inside[k] != 0 ? static_cast<uint8_t>(value[k] + 0.5f) : uint8_t{0};
            }
        }
    });
}

void invert_displacement(const float* u, Shape3 shape, double scale, int64_t steps, float* v, int threads) {
    const int64_t stride = shape.count(), slab = shape.size[1] * shape.size[2];
    const int64_t next[3] = {shape.size[0] > 1 ? slab : 0, shape.size[1] > 1 ? shape.size[2] : 0,
                             shape.size[2] > 1 ? 1 : 0};
    const auto step = static_cast<float>(scale);
    parallel_for(stride, 1024, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t n = begin; n < end; ++n) {
            const int64_t index[3] = {n / slab, n / shape.size[2] % shape.size[1], n % shape.size[2]};
            float at[3] = {v[n], v[n + stride], v[n + 2 * stride]};
            for (int64_t done = 0; done < steps; ++done) {
                int64_t corner = 0;
                float f[3];
                for (int a = 0; a < 3; ++a) {
                    const auto last = static_cast<float>(shape.size[a] - 1);
                    const float moved = static_cast<float>(index[a]) + step * at[a];
                    const float p = moved > 0.0f ? (moved < last ? moved : last) : 0.0f;
                    const auto whole = std::min(static_cast<int64_t>(p), std::max<int64_t>(shape.size[a] - 2, 0));
                    f[a] = p - static_cast<float>(whole);
                    corner += whole * (a == 0 ? slab : a == 1 ? shape.size[2] : 1);
                }
                for (int64_t a = 0; a < 3; ++a) at[a] = -trilinear(u + a * stride + corner, next, f);
            }
            for (int64_t a = 0; a < 3; ++a) v[n + a * stride] = at[a];
        }
    });
}

void warp_labels(const uint8_t* labels, Shape3 shape, const Warp& by, uint8_t* result, Isa isa, int threads) {
    const Spline spline("control", by, shape);
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
