#pragma once

// What all resampling shares: volumes as lattices, and the rows of an output volume within them.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "mixpriv/kernels.h"
#include "mixpriv/parallel.h"
#include "mixpriv/rows.h"

namespace mixpriv {

constexpr int64_t row_grain = 32;
constexpr int64_t tile = 8;  // rows along both outer axes that are done together: they read the same input lines

Lattice lattice_of(const View3& view);

// How a value is normalised: clip((x - lo) * scale, 0, 1).
struct Normal {
    float lo, scale;
};
Normal normal_of(const char* name, const Range& range);

// Positions from lo to hi on every axis, both included.
struct Box {
    double lo[3], hi[3];
};
Box around(const Lattice& lattice);  // up to half a voxel outside

struct Interval {
    int64_t begin, end;
};

// The voxels of a row of `count` that lie in a box.
Interval inside(const Line& line, const Box& box, int64_t count);

void check_geometry(const Lattice& lattice, const Matrix& matrix);

inline double at(const Line& line, int axis, int64_t k) {
    return static_cast<double>(k) * line.step[axis] + line.first[axis] + line.second[axis] + line.third[axis];
}

// The row of output voxels along an axis through a voxel. Whatever the axis, a voxel's position has the same bits:
// m0 * i + m1 * j + m3 + m2 * k, summed in this order.
inline Line line_of(const Matrix& matrix, int along, const int64_t* voxel) {
    Line line;
    for (size_t a = 0; a < 3; ++a) {
        const auto& m = matrix[a];
        const double i = m[0] * static_cast<double>(voxel[0]), j = m[1] * static_cast<double>(voxel[1]);
        line.step[a] = m[static_cast<size_t>(along)];
        line.first[a] = along == 2 ? i + j + m[3] : along == 1 ? i : j;
        line.second[a] = along == 2 ? 0.0 : m[3];
        line.third[a] = along == 2 ? 0.0 : m[2] * static_cast<double>(voxel[2]);
    }
    return line;
}

// The output axis along which an input's rows, its last axis, are passed through fastest.
int row_axis(const Matrix& matrix);

// Writes `count` rows, `pitch` apart, as columns: column n begins at to + n * step.
template <class Item>
void write_columns(const Item* rows, int64_t pitch, int64_t count, int64_t length, Item* to, int64_t step) {
    for (int64_t n = 0; n < length; ++n)
        for (int64_t row = 0; row < count; ++row) to[n * step + row] = rows[row * pitch + n];
}

// Calls visit(line, interval, length, row) for every row of the output, in tiles; it must fill the whole row. Rows run
// as the input's do: else each voxel would be on a cache line of its own, of sizes like 256 all in one cache set.
template <class Item, class Visit>
void for_rows(const Matrix& matrix, const Box& box, Shape3 shape, int threads, Item* result, const Visit& visit) {
    constexpr int64_t line_items = 64 / static_cast<int64_t>(sizeof(Item));
    const int along = row_axis(matrix), outer = along == 0 ? 1 : 0, inner = along == 2 ? 1 : 2;
    const int64_t stride[3] = {shape.size[1] * shape.size[2], shape.size[2], 1};
    const int64_t length = shape.size[along], pitch = length + line_items, wide = inner == 2 ? line_items : tile;
    const int64_t tiles[2] = {(shape.size[outer] + tile - 1) / tile, (shape.size[inner] + wide - 1) / wide};
    parallel_for(tiles[0] * tiles[1], 1, threads, [&](int64_t begin, int64_t end, int) {
        std::vector<Item> rows(along == 2 ? size_t{0} : static_cast<size_t>(wide * pitch));
        for (int64_t index = begin; index < end; ++index) {
            const int64_t p0 = index / tiles[1] * tile, q0 = index % tiles[1] * wide;
            const int64_t count = std::min(wide, shape.size[inner] - q0);
            for (int64_t p = p0; p < std::min(p0 + tile, shape.size[outer]); ++p) {
                int64_t voxel[3] = {};
                voxel[outer] = p;
                Item* const to = result + p * stride[outer] + q0 * stride[inner];
                for (int64_t n = 0; n < count; ++n) {
                    voxel[inner] = q0 + n;
                    const Line line = line_of(matrix, along, voxel);
                    Item* const row = along == 2 ? to + n * stride[inner] : rows.data() + n * pitch;
                    visit(line, inside(line, box, length), length, row);
                }
                if (along != 2) write_columns(rows.data(), pitch, count, length, to, stride[along]);
            }
        }
    });
}

}  // namespace mixpriv
