#pragma once

// Positions between voxels, and trilinear interpolation there: the CPU's operations in the CPU's order.

#include <cmath>
#include <cstdint>

#include "cuda/launch.h"

namespace mixpriv::cuda {

struct Voxel {
    int64_t at[3];
};

struct Position {
    double at[3];
};

// The eight voxels around a position: offset of the lower corner and the fractions towards the upper ones.
struct Cell {
    int64_t corner;
    float fraction[3];
    bool inside;
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

    __host__ __device__ int64_t count() const { return size[0] * stride[0]; }
    __device__ int64_t offset(const Voxel& x) const { return x.at[0] * stride[0] + x.at[1] * stride[1] + x.at[2]; }

    // `inside`: in the lattice or up to `margin` voxels outside it; the position is clamped to the lattice.
    __device__ Cell cell(const Position& p, double margin) const {
        Cell cell{0, {}, true};
        for (int a = 0; a < 3; ++a) {
            const auto last = static_cast<double>(size[a] - 1);
            cell.inside = cell.inside && p.at[a] >= -margin && p.at[a] <= last + margin;
            const double clamped = p.at[a] < 0.0 ? 0.0 : last < p.at[a] ? last : p.at[a];
            const int64_t last_corner = size[a] > 1 ? size[a] - 2 : 0;
            int64_t below = static_cast<int64_t>(clamped);
            if (below > last_corner) below = last_corner;
            cell.fraction[a] = static_cast<float>(clamped - static_cast<double>(below));
            cell.corner += below * stride[a];
        }
        return cell;
    }

    __device__ Cell cell_around(const Position& p) const { return cell(p, 0.5); }
    __device__ Cell cell_within(const Position& p) const { return cell(p, 0.0); }

    // Offset of the nearest voxel, ties upwards, or -1 if there is none.
    __device__ int64_t nearest(const Position& p) const {
        int64_t offset = 0;
        for (int a = 0; a < 3; ++a) {
            const double index = std::floor(p.at[a] + 0.5);
            if (!(index >= 0.0 && index <= static_cast<double>(size[a] - 1))) return -1;
            offset += static_cast<int64_t>(index) * stride[a];
        }
        return offset;
    }

    // value(offset) is the voxel there.
    template <class Value>
    __device__ float blend(const Cell& cell, const Value& value) const {
        const auto line = [&](int64_t at) {
            const float a = value(at), b = value(at + next[2]);
            return a + (b - a) * cell.fraction[2];
        };
        const auto plane = [&](int64_t at) {
            const float a = line(at), b = line(at + next[1]);
            return a + (b - a) * cell.fraction[1];
        };
        const float a = plane(cell.corner), b = plane(cell.corner + next[0]);
        return a + (b - a) * cell.fraction[0];
    }
};

}  // namespace mixpriv::cuda
