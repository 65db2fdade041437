#pragma once

// Positions between voxels, and trilinear interpolation there: the CPU's operations in the CPU's order.

#include <cmath>
#include <cstdint>
#include <string>

#include "cuda/launch.h"
#include "mixpriv/error.h"

namespace mixpriv::cuda {

// clip((x - lo) * scale, 0, 1)
struct Normal {
    float lo, scale;

    __device__ float operator()(float x) const {  // NaN becomes 0
        const float y = (x - lo) * scale;
        const float positive = y > 0.0f ? y : 0.0f;
        return positive < 1.0f ? positive : 1.0f;
    }
};

// Throws InputError, with the argument's name, if the range is none.
inline Normal normal_of(const char* name, const Range& range) {
    const auto lo = static_cast<float>(range.lo), hi = static_cast<float>(range.hi);
    const float scale = 1.0f / (hi - lo);
    if (!(std::isfinite(lo) && std::isfinite(hi) && lo < hi && std::isfinite(scale) && scale > 0.0f))
        throw InputError(std::string(name) + ": expected finite (lo, hi) with lo < hi");
    return {lo, scale};
}

__device__ inline float lerp(float a, float b, float fraction) {
    return a + (b - a) * fraction;
}

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

    explicit Lattice(Shape3 shape) : Lattice(View3{shape, {}}) {}

    explicit Lattice(const View3& view) {
        int64_t step = 1;
        for (int a = 2; a >= 0; --a) {
            size[a] = view.shape.size[a];
            stride[a] = view.flipped[a] ? -step : step;
            next[a] = size[a] > 1 ? stride[a] : 0;
            step *= size[a];
        }
    }

    __host__ __device__ int64_t count() const { return size[0] * size[1] * size[2]; }
    __device__ int64_t offset(const Voxel& x) const {
        return x.at[0] * stride[0] + x.at[1] * stride[1] + x.at[2] * stride[2];
    }

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

    // The nearest voxel, ties upwards; false if there is none.
    __device__ bool nearest(const Position& p, Voxel* found) const {
        for (int a = 0; a < 3; ++a) {
            const double index = std::floor(p.at[a] + 0.5);
            if (!(index >= 0.0 && index <= static_cast<double>(size[a] - 1))) return false;
            found->at[a] = static_cast<int64_t>(index);
        }
        return true;
    }

    // value(offset) is the voxel there. Along the first axis first, as on the CPU.
    template <class Value>
    __device__ float blend(const Cell& cell, const Value& value) const {
        const auto edge = [&](int64_t at) { return lerp(value(at), value(at + next[0]), cell.fraction[0]); };
        const auto face = [&](int64_t at) { return lerp(edge(at), edge(at + next[1]), cell.fraction[1]); };
        return lerp(face(cell.corner), face(cell.corner + next[2]), cell.fraction[2]);
    }
};

}  // namespace mixpriv::cuda
