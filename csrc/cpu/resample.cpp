// Trilinear resampling through an affine, of one image or of class probabilities straight to labels.

#include <algorithm>
#include <cmath>
#include <vector>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"
#include "mixpriv/parallel.h"

namespace mixpriv {
namespace {

constexpr int64_t row_grain = 32;
constexpr double largest_entry = 1e30;  // no sum or product of it with an index overflows
constexpr uint8_t mixed = 0xFF;

// One row of output voxels: where it lies in the input, index coordinate a being start[a] + k * step[a].
struct Row {
    double start[3], step[3];
    double at(int axis, int64_t k) const { return start[axis] + static_cast<double>(k) * step[axis]; }
};

struct Interval {
    int64_t begin, end;
};

constexpr int64_t block = 128;

// Input voxels around consecutive positions: offset of the lower corner and the fractions towards the upper ones.
struct Cells {
    int64_t corner[block];
    float fraction[3][block];
};

struct Lattice {
    int64_t size[3], stride[3], next[3];  // next: from a corner to its neighbour, 0 on an axis of one voxel

    explicit Lattice(Shape3 shape) {
        for (int a = 2; a >= 0; --a) {
            size[a] = shape.size[a];
            stride[a] = a == 2 ? 1 : stride[a + 1] * size[a + 1];
            next[a] = size[a] > 1 ? stride[a] : 0;
        }
    }

    // Fills `cells` with the positions begin .. begin + count of a row. One plain loop per step, and 32-bit indices
    // along an axis, so that it vectorises.
    void locate(const Row& row, int64_t begin, int64_t count, Cells* cells) const {
        std::fill_n(cells->corner, count, int64_t{0});
        for (int a = 0; a < 3; ++a) {
            const auto last = static_cast<double>(size[a] - 1);
            const auto last_corner = static_cast<int32_t>(std::max<int64_t>(size[a] - 2, 0));
            const auto first = static_cast<int32_t>(begin);
            int32_t below[block];
            for (int32_t k = 0; k < count; ++k) {
                const double p = std::clamp(row.at(a, first + k), 0.0, last);
                below[k] = std::min(static_cast<int32_t>(p), last_corner);
                cells->fraction[a][k] = static_cast<float>(p - below[k]);
            }
            for (int64_t k = 0; k < count; ++k) cells->corner[k] += below[k] * stride[a];
        }
    }

    float blend(const float* corner, const Cells& cells, int64_t k) const {
        const float x = cells.fraction[0][k], y = cells.fraction[1][k], z = cells.fraction[2][k];
        const auto line = [&](const float* p) { return p[0] + (p[next[2]] - p[0]) * z; };
        const auto plane = [&](const float* p) {
            const float a = line(p), b = line(p + next[1]);
            return a + (b - a) * y;
        };
        const float a = plane(corner), b = plane(corner + next[0]);
        return a + (b - a) * x;
    }
};

// First k in [0, count] for which the predicate holds; it must be false before and true after.
template <class Predicate>
int64_t first_where(int64_t count, const Predicate& predicate) {
    int64_t begin = 0, end = count;
    while (begin < end) {
        const int64_t middle = begin + (end - begin) / 2;
        if (predicate(middle))
            end = middle;
        else
            begin = middle + 1;
    }
    return begin;
}

// The voxels of a row that lie in the lattice or up to half a voxel outside it. Coordinates are monotonic in k even
// after rounding, so bisection finds the exact ends.
Interval inside(const Row& row, const Lattice& lattice, int64_t count) {
    Interval all{0, count};
    for (int a = 0; a < 3; ++a) {
        const double lo = -0.5, hi = static_cast<double>(lattice.size[a]) - 0.5;
        const bool up = row.step[a] >= 0.0;
        const int64_t begin =
            first_where(count, [&](int64_t k) { return up ? row.at(a, k) >= lo : row.at(a, k) <= hi; });
        const int64_t end = first_where(count, [&](int64_t k) { return up ? row.at(a, k) > hi : row.at(a, k) < lo; });
        all = {std::max(all.begin, begin), std::min(all.end, end)};
    }
    return all.begin < all.end ? all : Interval{0, 0};
}

// Calls visit(row, interval, offset of the row in the output) for every row of the output.
template <class Visit>
void for_rows(const Matrix& m, const Lattice& lattice, Shape3 shape, int threads, const Visit& visit) {
    for (const int64_t n : lattice.size)
        if (n > INT32_MAX) throw InputError("volume to resample: expected axes below 2^31 voxels, got a longer one");
    for (const auto& line : m)
        for (const double entry : line)
            if (!(std::abs(entry) < largest_entry))
                throw InputError("matrix: expected finite entries, below 1e30 in size");
    const int64_t width = shape.size[2];
    parallel_for(shape.size[0] * shape.size[1], row_grain, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t index = begin; index < end; ++index) {
            const auto i = static_cast<double>(index / shape.size[1]), j = static_cast<double>(index % shape.size[1]);
            Row row;
            for (size_t a = 0; a < 3; ++a) {
                row.start[a] = m[a][0] * i + m[a][1] * j + m[a][3];
                row.step[a] = m[a][2];
            }
            visit(row, inside(row, lattice, width), index * width);
        }
    });
}

// For every lower corner the label that all eight corners share, or `mixed`. Interpolation keeps the order of two
// classes that is the same at every corner, so only mixed cells need their probabilities.
std::vector<uint8_t> cell_labels(const float* probabilities, int64_t classes, const Lattice& lattice, Shape3 shape,
                                 int threads) {
    const int64_t count = shape.count();
    std::vector<uint8_t> corner(static_cast<size_t>(count)), cell(static_cast<size_t>(count), mixed);
    argmax(probabilities, classes, count, corner.data(), threads);
    const int64_t ends[2] = {std::max<int64_t>(shape.size[1] - 1, 1), std::max<int64_t>(shape.size[2] - 1, 1)};
    parallel_for(std::max<int64_t>(shape.size[0] - 1, 1), 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
            for (int64_t j = 0; j < ends[0]; ++j) {
                const int64_t offset = i * lattice.stride[0] + j * lattice.stride[1];
                const uint8_t* p[4] = {corner.data() + offset, corner.data() + offset + lattice.next[1],
                                       corner.data() + offset + lattice.next[0],
                                       corner.data() + offset + lattice.next[0] + lattice.next[1]};
                for (int64_t k = 0; k < ends[1]; ++k) {
                    unsigned differ = 0;
                    for (const uint8_t* q : p)
                        differ |= static_cast<unsigned>(q[k] ^ p[0][k]) |
                                  static_cast<unsigned>(q[k + lattice.next[2]] ^ p[0][k]);
                    cell[static_cast<size_t>(offset + k)] = differ != 0 ? mixed : p[0][k];
                }
            }
    });
    return cell;
}

}  // namespace

void resample(const float* image, Shape3 image_shape, const Matrix& matrix, Shape3 shape, float* result, int threads) {
    const Lattice lattice(image_shape);
    for_rows(matrix, lattice, shape, threads, [&](const Row& row, Interval where, int64_t offset) {
        float* out = result + offset;
        std::fill(out, out + where.begin, 0.0f);
        Cells cells;
        for (int64_t begin = where.begin; begin < where.end; begin += block) {
            const int64_t count = std::min(block, where.end - begin);
            lattice.locate(row, begin, count, &cells);
            for (int64_t k = 0; k < count; ++k) out[begin + k] = lattice.blend(image + cells.corner[k], cells, k);
        }
        std::fill(out + where.end, out + shape.size[2], 0.0f);
    });
}

void restore_labels(const float* probabilities, int64_t classes, Shape3 grid_shape, const Matrix& matrix, Shape3 shape,
                    uint8_t* labels, int threads) {
    const Lattice lattice(grid_shape);
    const int64_t channel = grid_shape.count();
    const std::vector<uint8_t> known = cell_labels(probabilities, classes, lattice, grid_shape, threads);
    const auto label_in = [&](const Cells& cells, int64_t k) {
        const float* p = probabilities + cells.corner[k];
        float best = lattice.blend(p, cells, k);
        int64_t label = 0;
        for (int64_t c = 1; c < classes; ++c) {
            const float value = lattice.blend(p + c * channel, cells, k);
            if (value > best) {
                best = value;
                label = c;
            }
        }
        return static_cast<uint8_t>(label);
    };
    for_rows(matrix, lattice, shape, threads, [&](const Row& row, Interval where, int64_t offset) {
        uint8_t* out = labels + offset;
        std::fill(out, out + shape.size[2], uint8_t{0});
        Cells cells;
        for (int64_t begin = where.begin; begin < where.end; begin += block) {
            const int64_t count = std::min(block, where.end - begin);
            lattice.locate(row, begin, count, &cells);
            for (int64_t k = 0; k < count; ++k) {
                const uint8_t label = known[static_cast<size_t>(cells.corner[k])];
                out[begin + k] = label != mixed ? label : label_in(cells, k);
            }
        }
    });
}

}  // namespace mixpriv
