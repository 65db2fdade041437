// Resampling through an affine, trilinearly; and means of blocks before it.

#include <algorithm>
#include <vector>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"
#include "sampling.h"
#include "spread.h"

namespace mixpriv {
namespace {

// Planes are read by turns, a few rows of each: processors foresee the rows of one plane only.
void fetch_ahead(const float* row, int64_t stride, int64_t count) {
#if defined(__GNUC__) || defined(__clang__)
    if (stride != 1 && stride != -1) return;
    constexpr int64_t ahead = 1024, line = 16;
    const float* const lowest = stride == 1 ? row : row + 1 - count;
    for (int64_t k = 0; k < count; k += line) __builtin_prefetch(lowest + ahead + k);
#endif
}

// Mean of `factor` neighbours along the last axis.
void mean_along_row(const float* row, int64_t stride, int64_t factor, int64_t count, float* out) {
    if (factor == 2 && (stride == 1 || stride == -1)) {  // what most scans need: compilers vectorise it
        const float* const lowest = stride == 1 ? row : row + 1 - 2 * count;
        for (int64_t k = 0; k < count; ++k) out[k] = (lowest[2 * k] + lowest[2 * k + 1]) * 0.5f;
        if (stride < 0) std::reverse(out, out + count);
        return;
    }
    const float share = static_cast<float>(1.0 / static_cast<double>(factor));
    for (int64_t k = 0; k < count; ++k) {
        const float* const p = row + k * factor * stride;
        float sum = p[0];
        for (int64_t n = 1; n < factor; ++n) sum += p[n * stride];
        out[k] = sum * share;
    }
}

// total += or = more, then times share.
void add_row(float* total, const float* more, int64_t n, int64_t factor, int64_t count) {
    if (n == 0)
        std::copy_n(more, count, total);
    else
        for (int64_t k = 0; k < count; ++k) total[k] += more[k];
    if (n != factor - 1 || factor == 1) return;
    const float share = static_cast<float>(1.0 / static_cast<double>(factor));
    for (int64_t k = 0; k < count; ++k) total[k] *= share;
}

}  // namespace

void resample(const float* image, const View3& view, const Matrix& matrix, Shape3 shape, float* result, Isa isa,
              int threads) {
    const Lattice lattice = lattice_of(view);
    check_geometry(lattice, matrix);
    const RowKernels& rows = rows_for(isa);
    const auto visit = [&](const Line& line, Interval where, int64_t length, float* out) {
        std::fill(out, out + where.begin, 0.0f);
        Cells cells;
        for (int64_t begin = where.begin; begin < where.end; begin += cell_block) {
            const int64_t count = std::min(cell_block, where.end - begin);
            rows.locate(line, lattice, begin, count, &cells);
            rows.blend(image, lattice, cells, count, out + begin);
        }
        std::fill(out + where.end, out + length, 0.0f);
    };
    for_rows(matrix, around(lattice), shape, threads, result, visit);
}

void block_mean(const float* image, const View3& view, const int64_t* factor, float* result, int threads) {
    const Lattice lattice = lattice_of(view);
    const int64_t size[3] = {lattice.size[0] / factor[0], lattice.size[1] / factor[1], lattice.size[2] / factor[2]};
    // Rows are read upwards in memory, where the processor reads ahead, and summed in their own order.
    const auto upwards = [&](int axis, int64_t count, int64_t n) {
        return lattice.stride[axis] < 0 ? count - 1 - n : n;
    };
    parallel_for(size[0] * size[1], row_grain, threads, [&](int64_t begin, int64_t end, int) {
        std::vector<float> rows(static_cast<size_t>(factor[1] * size[2])), plane(static_cast<size_t>(size[2]));
        for (int64_t step = begin; step < end; ++step) {
            const int64_t i = upwards(0, size[0], step / size[1]), j = upwards(1, size[1], step % size[1]);
            for (int64_t di = 0; di < factor[0]; ++di) {
                const float* const from =
                    image + (i * factor[0] + di) * lattice.stride[0] + j * factor[1] * lattice.stride[1];
                for (int64_t n = 0; n < factor[1]; ++n) {
                    const int64_t dj = upwards(1, factor[1], n);
                    fetch_ahead(from + dj * lattice.stride[1], lattice.stride[2], factor[2] * size[2]);
                    mean_along_row(from + dj * lattice.stride[1], lattice.stride[2], factor[2], size[2],
                                   rows.data() + dj * size[2]);
                }
                for (int64_t dj = 0; dj < factor[1]; ++dj)
                    add_row(plane.data(), rows.data() + dj * size[2], dj, factor[1], size[2]);
                add_row(result + (i * size[1] + j) * size[2], plane.data(), di, factor[0], size[2]);
            }
        }
    });
}

}  // namespace mixpriv
