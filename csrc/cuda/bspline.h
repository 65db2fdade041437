#pragma once

// Displacements from a coarse grid of cubic B-spline coefficients. A block takes a stretch of one row of voxels: first
// the two outer axes contract to one-dimensional coefficients in shared memory, then each voxel needs four of those per
// axis.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "cuda/launch.h"
#include "cuda/sampling.h"
#include "mixpriv/error.h"

namespace mixpriv::cuda {

constexpr int tile_threads = 128;
constexpr int tile_points = tile_threads + 5;  // control points that a stretch can need

// A stretch of a row: voxels (i, j, begin) to (i, j, end).
struct Tile {
    int64_t i, j, begin, end;
};

struct SplineRow {
    int64_t first;  // control point along the row that coefficient 0 belongs to
    float coefficient[3][tile_points];
};

// Weights of the four control points around a position that lies `t` of a knot behind the second of them.
struct SplineWeights {
    float at[4];

    __device__ explicit SplineWeights(float t) {
        const float s = 1.0f - t;
        at[0] = s * s * s / 6.0f;
        at[1] = 2.0f / 3.0f - t * t * (2.0f - t) / 2.0f;
        at[2] = 2.0f / 3.0f - s * s * (2.0f - s) / 2.0f;
        at[3] = t * t * t / 6.0f;
    }
};

struct Spline {
    const float* points;  // (3, size)
    int64_t size[3];
    double knots;

    // Throws InputError, with the argument's name, if the control points do not reach every voxel of a volume.
    Spline(const char* name, const Warp& warp, Shape3 shape) : points(warp.control), size{}, knots(warp.knots) {
        if (!(std::isfinite(warp.knots) && warp.knots > 0.0))
            throw InputError(std::string(name) + ": expected a finite distance of control points above 0");
        double needed[3];
        for (int a = 0; a < 3; ++a) needed[a] = std::floor(static_cast<double>(shape.size[a] - 1) / warp.knots) + 4.0;
        for (int a = 0; a < 3; ++a) {
            size[a] = warp.points.size[a];
            if (!(needed[a] <= static_cast<double>(size[a])))
                throw InputError(std::string(name) + ": expected control points of at least " + text(needed) +
                                 ", got " + text(warp.points.size));
        }
    }

    template <class T>
    static std::string text(const T (&sizes)[3]) {
        std::string all = "(3";
        for (const T n : sizes)
            all += ", " + std::to_string(static_cast<int64_t>(std::min<double>(static_cast<double>(n), 0x1p62)));
        return all + ")";
    }

    __device__ int64_t knot(int64_t voxel) const {
        return static_cast<int64_t>(std::floor(static_cast<double>(voxel) / knots));
    }
    __device__ SplineWeights weights(int64_t voxel) const {
        const double t = static_cast<double>(voxel) / knots;
        return SplineWeights(static_cast<float>(t - std::floor(t)));
    }

    // The block's threads share the coefficients among them.
    __device__ void contract(const Tile& tile, SplineRow* row) const {
        const int64_t first = knot(tile.begin), count = knot(tile.end - 1) + 4 - first;
        if (threadIdx.x == 0) row->first = first;
        const int64_t outer[2] = {knot(tile.i), knot(tile.j)};
        const SplineWeights weight[2] = {weights(tile.i), weights(tile.j)};
        for (int64_t n = threadIdx.x; n < 3 * count; n += blockDim.x) {
            const int64_t axis = n / count, point = n % count;
            float sum = 0.0f;
            for (int p = 0; p < 4; ++p)
                for (int q = 0; q < 4; ++q) {
                    const int64_t line = (axis * size[0] + outer[0] + p) * size[1] + outer[1] + q;
                    sum += weight[0].at[p] * weight[1].at[q] * points[line * size[2] + first + point];
                }
            row->coefficient[axis][point] = sum;
        }
    }

    // x + u(x)
    __device__ Position position(const SplineRow& row, const Voxel& x) const {
        const int64_t point = knot(x.at[2]) - row.first;
        const SplineWeights weight = weights(x.at[2]);
        Position p;
        for (int a = 0; a < 3; ++a) {
            float u = 0.0f;
            for (int m = 0; m < 4; ++m) u += weight.at[m] * row.coefficient[a][point + m];
            p.at[a] = static_cast<double>(x.at[a]) + static_cast<double>(u);
        }
        return p;
    }
};

// Voxels of a row whose control points fit into a SplineRow, at most one per thread.
__host__ __device__ inline int64_t tile_length(const Spline& spline) {
    if (spline.knots >= 1.0) return tile_threads;
    const auto length = static_cast<int64_t>(tile_threads * spline.knots);
    return length > 1 ? length : 1;
}

// Calls body(tile) for the stretches of this block; all its threads, so that a body may wait for them.
template <class Body>
__device__ void for_row_tiles(const Lattice& lattice, int64_t length, const Body& body) {
    const int64_t per_row = (lattice.size[2] + length - 1) / length;
    const int64_t tiles = lattice.size[0] * lattice.size[1] * per_row;
    for (int64_t n = blockIdx.x; n < tiles; n += gridDim.x) {
        const int64_t row = n / per_row, begin = (n % per_row) * length;
        const int64_t end = begin + length < lattice.size[2] ? begin + length : lattice.size[2];
        body(Tile{row / lattice.size[1], row % lattice.size[1], begin, end});
    }
}

inline dim3 tile_grid(const Lattice& lattice, int64_t length) {
    const int64_t tiles = lattice.size[0] * lattice.size[1] * blocks_for(lattice.size[2], length);
    return dim3(static_cast<unsigned>(std::min(tiles, most_blocks)));
}

// Calls body(voxel) for this thread's voxel of a tile, if it has one.
template <class Body>
__device__ void for_tile(const Tile& tile, const Body& body) {
    const int64_t k = tile.begin + threadIdx.x;
    if (k < tile.end) body(Voxel{{tile.i, tile.j, k}});
}

}  // namespace mixpriv::cuda
