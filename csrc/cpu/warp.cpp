// Volumes bent by a control grid: channels trilinearly, labels to the nearest voxel.

#include "mixpriv/kernels.h"
#include "scratch.h"
#include "spline.h"
#include "spread.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

#ifdef __SSE2__

// Eight times eight bytes turned: v[n] has the columns 2n and 2n + 1.
template <class Row>
void turn(const Row& row, __m128i* v) {
    const auto load = [&](int n) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row(n))); };
    __m128i pairs[4];
    for (int n = 0; n < 4; ++n) pairs[n] = _mm_unpacklo_epi8(load(2 * n), load(2 * n + 1));
    const __m128i a = _mm_unpacklo_epi16(pairs[0], pairs[1]), b = _mm_unpackhi_epi16(pairs[0], pairs[1]);
    const __m128i c = _mm_unpacklo_epi16(pairs[2], pairs[3]), d = _mm_unpackhi_epi16(pairs[2], pairs[3]);
    v[0] = _mm_unpacklo_epi32(a, c);
    v[1] = _mm_unpackhi_epi32(a, c);
    v[2] = _mm_unpacklo_epi32(b, d);
    v[3] = _mm_unpackhi_epi32(b, d);
}

#endif

// Turns eight rows of `count` bytes into `count` rows of eight, one behind the other.
void interleave(const uint8_t* const* rows, int64_t count, uint8_t* voxels) {
    int64_t k = 0;
#ifdef __SSE2__
    for (; k + 8 <= count; k += 8) {
        __m128i v[4];
        turn([&](int n) { return rows[n] + k; }, v);
        for (int n = 0; n < 4; ++n) _mm_storeu_si128(reinterpret_cast<__m128i*>(voxels + k * voxel_channels) + n, v[n]);
    }
#endif
    for (; k < count; ++k)
        for (int64_t c = 0; c < voxel_channels; ++c) voxels[k * voxel_channels + c] = rows[c][k];
}

// The way back, for the first `channels` of the eight.
void deinterleave(const uint8_t* voxels, int64_t count, int64_t channels, uint8_t* first, int64_t stride) {
    int64_t k = 0;
#ifdef __SSE2__
    for (; k + 8 <= count; k += 8) {
        __m128i v[4];
        turn([&](int n) { return voxels + (k + n) * voxel_channels; }, v);
        for (int64_t c = 0; c < channels; ++c) {
            auto* const out = reinterpret_cast<__m128i*>(first + c * stride + k);
            _mm_storel_epi64(out, c % 2 == 0 ? v[c / 2] : _mm_unpackhi_epi64(v[c / 2], v[c / 2]));
        }
    }
#endif
    for (; k < count; ++k)
        for (int64_t c = 0; c < channels; ++c) first[c * stride + k] = voxels[k * voxel_channels + c];
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
    const auto voxels = scratch<uint8_t>(voxel_channels * stride);
    static constexpr uint8_t zeros[cell_block] = {};
    for (int64_t c = 0; c < count; c += voxel_channels) {
        const int64_t width = std::min(voxel_channels, count - c);
        parallel_for(stride, voxel_grain, threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t first = begin; first < end; first += cell_block) {
                const uint8_t* from[voxel_channels];
                for (int64_t n = 0; n < voxel_channels; ++n)
                    from[n] = n < width ? channels + (c + n) * stride + first : zeros;
                interleave(from, std::min(cell_block, end - first), voxels.get() + first * voxel_channels);
            }
        });
        for_bent_rows(spline, shape, threads, [&](const BentRow& row, int64_t offset) {
            Cells cells;
            uint8_t inside[cell_block], bent[cell_block * voxel_channels];
            for (int64_t first = 0; first < shape.size[2]; first += cell_block) {
                const int64_t length = std::min(cell_block, shape.size[2] - first);
                rows.bend(row, lattice, first, length, &cells, inside);
                rows.blend_voxels(voxels.get(), width, lattice, cells, length, bent);
                for (int64_t k = 0; k < length; ++k)
                    if (inside[k] == 0) std::fill_n(bent + k * voxel_channels, voxel_channels, uint8_t{0});
                deinterleave(bent, length, width, result + c * stride + offset + first, stride);
            }
        });
    }
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
