#pragma once

// What all resampling shares: volumes as lattices, and the rows of an output volume within them.

#include <algorithm>
#include <cstdint>

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

inline Line line_of(const Matrix& m, int64_t i, int64_t j) {
    Line line;
    for (size_t a = 0; a < 3; ++a) {
        line.start[a] = m[a][0] * static_cast<double>(i) + m[a][1] * static_cast<double>(j) + m[a][3];
        line.step[a] = m[a][2];
    }
    return line;
}

// Calls visit(line, interval, offset of the row in the output) for every row of the output, in tiles.
template <class Visit>
void for_rows(const Matrix& matrix, const Box& box, Shape3 shape, int threads, const Visit& visit) {
    const int64_t tiles[2] = {(shape.size[0] + tile - 1) / tile, (shape.size[1] + tile - 1) / tile};
    parallel_for(tiles[0] * tiles[1], 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t index = begin; index < end; ++index) {
            const int64_t i0 = index / tiles[1] * tile, j0 = index % tiles[1] * tile;
            for (int64_t j = j0; j < std::min(j0 + tile, shape.size[1]); ++j)
                for (int64_t i = i0; i < std::min(i0 + tile, shape.size[0]); ++i) {
                    const Line line = line_of(matrix, i, j);
                    visit(line, inside(line, box, shape.size[2]), (i * shape.size[1] + j) * shape.size[2]);
                }
        }
    });
}

}  // namespace mixpriv
