#pragma once

// Positions in a lattice, straight and bent, and trilinear interpolation there.

#include "rows/vectors.h"

namespace mixpriv {
namespace {

template <class V>
inline V lerp(V a, V b, V fraction) {
    return a + (b - a) * fraction;
}

// 32-bit indices along an axis, because only those are converted to and from floating point by vectors.
void locate(const Line& line, const Lattice& lattice, int64_t first, int64_t count, Cells* cells) {
    for (int64_t k = 0; k < count; ++k) cells->corner[k] = 0;
    for (int a = 0; a < 3; ++a) {
        const auto last = static_cast<double>(lattice.size[a] - 1);
        const auto last_corner = static_cast<int32_t>(lattice.size[a] > 1 ? lattice.size[a] - 2 : 0);
        const double step = line.step[a], one = line.first[a], two = line.second[a], three = line.third[a];
        const auto from = static_cast<int32_t>(first);
        int32_t below[cell_block];
        float* const fraction = cells->fraction[a];
        for (int32_t k = 0; k < static_cast<int32_t>(count); ++k) {
            const double p = static_cast<double>(from + k) * step + one + two + three;
            const double positive = p > 0.0 ? p : 0.0, clamped = positive < last ? positive : last;
            const auto whole = static_cast<int32_t>(clamped);
            below[k] = whole < last_corner ? whole : last_corner;
            fraction[k] = static_cast<float>(clamped - static_cast<double>(below[k]));
        }
        const int64_t stride = lattice.stride[a];
        for (int64_t k = 0; k < count; ++k) cells->corner[k] += below[k] * stride;
    }
}

// u[a][k], voxels, for `count` voxels from `first` on.
inline void displace(const BentRow& row, int64_t first, int64_t count, float (*u)[cell_block]) {
    const int32_t* const cell = row.cell + first;
    const float *const w0 = row.weight[0] + first, *const w1 = row.weight[1] + first;
    const float *const w2 = row.weight[2] + first, *const w3 = row.weight[3] + first;
    for (int a = 0; a < 3; ++a) {
        const float* const c = row.coefficient[a];
        float* const out = u[a];
        for (int64_t k = 0; k < count; ++k) {
            const int32_t at = cell[k];
            out[k] = (w0[k] * c[at] + w1[k] * c[at + 1]) + (w2[k] * c[at + 2] + w3[k] * c[at + 3]);
        }
    }
}

inline int32_t floor_of(float x) {
    const auto whole = static_cast<int32_t>(x);
    return whole - (x < static_cast<float>(whole) ? 1 : 0);
}

void bend(const BentRow& row, const Lattice& lattice, int64_t first, int64_t count, Cells* cells, uint8_t* inside) {
    float u[3][cell_block];
    displace(row, first, count, u);
    int32_t in[cell_block], below[cell_block];
    for (int64_t k = 0; k < count; ++k) cells->corner[k] = 0;
    for (int64_t k = 0; k < count; ++k) in[k] = 1;
    for (int a = 0; a < 3; ++a) {
        const auto last = static_cast<int32_t>(lattice.size[a] - 1);
        const int32_t last_corner = last > 0 ? last - 1 : 0;
        const float at_last = last > 0 ? 1.0f : 0.0f;
        const auto origin = static_cast<int32_t>(a < 2 ? row.index[a] : first);
        const int32_t walk = a < 2 ? 0 : 1;
        float* const fraction = cells->fraction[a];
        for (int32_t k = 0; k < static_cast<int32_t>(count); ++k) {
            const int32_t whole = floor_of(u[a][k]);
            const float rest = u[a][k] - static_cast<float>(whole);
            const int32_t i = origin + walk * k + whole;
            in[k] &=
                static_cast<int32_t>(i >= 0) & (static_cast<int32_t>(i < last) |
                                                (static_cast<int32_t>(i == last) & static_cast<int32_t>(rest == 0.0f)));
            fraction[k] = i > last_corner ? at_last : rest;
            const int32_t high = i < last_corner ? i : last_corner;
            below[k] = high > 0 ? high : 0;
        }
        const int64_t stride = lattice.stride[a];
        for (int64_t k = 0; k < count; ++k) cells->corner[k] += below[k] * stride;
    }
    for (int64_t k = 0; k < count; ++k) inside[k] = static_cast<uint8_t>(in[k]);
}

void bend_nearest(const BentRow& row, const Lattice& lattice, int64_t first, int64_t count, int64_t* voxel,
                  uint8_t* inside) {
    float u[3][cell_block];
    displace(row, first, count, u);
    int32_t in[cell_block], nearest[cell_block];
    for (int64_t k = 0; k < count; ++k) voxel[k] = 0;
    for (int64_t k = 0; k < count; ++k) in[k] = 1;
    for (int a = 0; a < 3; ++a) {
        const auto last = static_cast<int32_t>(lattice.size[a] - 1);
        const auto origin = static_cast<int32_t>(a < 2 ? row.index[a] : first);
        const int32_t walk = a < 2 ? 0 : 1;
        for (int32_t k = 0; k < static_cast<int32_t>(count); ++k) {
            const int32_t i = origin + walk * k + floor_of(u[a][k] + 0.5f);
            in[k] &= static_cast<int32_t>(i >= 0) & static_cast<int32_t>(i <= last);
            const int32_t high = i < last ? i : last;
            nearest[k] = high > 0 ? high : 0;
        }
        const int64_t stride = lattice.stride[a];
        for (int64_t k = 0; k < count; ++k) voxel[k] += nearest[k] * stride;
    }
    for (int64_t k = 0; k < count; ++k) inside[k] = static_cast<uint8_t>(in[k]);
}

// Whether any channel of a cell is not 0, voxels side by side along the last axis.
inline bool any_of_cell(const uint8_t* p, int64_t right, int64_t down) {
    const auto pair = [](const uint8_t* q) { return load<2 * voxel_channels>(q); };
    const auto any = pair(p) | pair(p + down) | pair(p + right) | pair(p + right + down);
    const auto words = reinterpret_cast<Vector<uint64_t, 2>>(any);
    return (words[0] | words[1]) != 0;
}

// The operations of `blend` and their order, for the channels of a voxel side by side.
void blend_voxels(const uint8_t* image, int64_t, const Lattice& lattice, const Cells& cells, int64_t count,
                  uint8_t* out) {
    constexpr int64_t N = at_most_8;
    using Floats = Vector<float, N>;
    const int64_t right = lattice.next[0] * voxel_channels, down = lattice.next[1] * voxel_channels,
                  ahead = lattice.next[2] * voxel_channels;
    int32_t whole[cell_block * voxel_channels];
    for (int64_t k = 0; k < count; ++k) {
        const uint8_t* const p = image + cells.corner[k] * voxel_channels;
        int32_t* const to = whole + k * voxel_channels;
        if (ahead == voxel_channels && !any_of_cell(p, right, down)) {  // most of an answer is background
            std::memset(to, 0, voxel_channels * sizeof *to);
            continue;
        }
        const auto x = all_lanes<N>(cells.fraction[0][k]), y = all_lanes<N>(cells.fraction[1][k]);
        const auto z = all_lanes<N>(cells.fraction[2][k]);
        const auto at = [](const uint8_t* q) { return __builtin_convertvector(load_bytes<N>(q), Floats); };
        const auto edge = [&](const uint8_t* q) { return lerp(at(q), at(q + right), x); };
        const auto face = [&](const uint8_t* q) { return lerp(edge(q), edge(q + down), y); };
        for (int64_t c = 0; c < voxel_channels; c += N) {
            const Floats value = lerp(face(p + c), face(p + ahead + c), z) + 0.5f;
            store(to + c, __builtin_convertvector(value, Vector<int32_t, N>));
        }
    }
    for (int64_t i = 0; i < count * voxel_channels; ++i) out[i] = static_cast<uint8_t>(whole[i]);
}

using Four = Vector<float, 4>;

// [p[0], p[1], q[0], q[1]]: neighbours along the last axis lie side by side.
inline Four two_pairs(const float* p, const float* q) {
    using Pair = double __attribute__((may_alias, aligned(sizeof(float))));  // just as wide
    return reinterpret_cast<Four>(
        Vector<double, 2>{*reinterpret_cast<const Pair*>(p), *reinterpret_cast<const Pair*>(q)});
}

// A cell with its first axis interpolated: [y0 z0, y0 z1, y1 z0, y1 z1].
inline Four face(const float* p, int64_t right, int64_t down, float x) {
    return lerp(two_pairs(p, p + down), two_pairs(p + right, p + right + down), all_lanes<4>(x));
}

// Two cells with their second axis interpolated: [z0, z1] of each.
inline Four edges(Four one, Four two, Four y) {
    return lerp(Four{one[0], one[1], two[0], two[1]}, Four{one[2], one[3], two[2], two[3]}, y);
}

// The operations of `blend` and their order, four cells at a time. Returns how many cells it did.
template <bool flipped>
int64_t blend_fours(const float* image, const int64_t* next, const Cells& cells, int64_t count, float* out) {
    const int64_t right = next[0], down = next[1];
    const float* const lowest = flipped ? image - 1 : image;
    int64_t k = 0;
    for (; k + 4 <= count; k += 4) {
        Four v[4];
        for (int n = 0; n < 4; ++n) v[n] = face(lowest + cells.corner[k + n], right, down, cells.fraction[0][k + n]);
        const Four y = load<4>(cells.fraction[1] + k), z = load<4>(cells.fraction[2] + k);
        const Four one = edges(v[0], v[1], Four{y[0], y[0], y[1], y[1]});
        const Four two = edges(v[2], v[3], Four{y[2], y[2], y[3], y[3]});
        const Four even{one[0], one[2], two[0], two[2]}, odd{one[1], one[3], two[1], two[3]};
        store(out + k, flipped ? lerp(odd, even, z) : lerp(even, odd, z));
    }
    return k;
}

void blend(const float* image, const Lattice& lattice, const Cells& cells, int64_t count, float* out) {
    const int64_t* const next = lattice.next;
    int64_t k = 0;
    if (next[2] == 1) k = blend_fours<false>(image, next, cells, count, out);
    if (next[2] == -1) k = blend_fours<true>(image, next, cells, count, out);
    for (; k < count; ++k) {
        const float *const p = image + cells.corner[k], *const q = p + next[1], *const r = p + next[0];
        const float x = cells.fraction[0][k], y = cells.fraction[1][k], z = cells.fraction[2][k];
        const auto near = [&](int64_t up) { return lerp(lerp(p[up], r[up], x), lerp(q[up], r[next[1] + up], x), y); };
        out[k] = lerp(near(0), near(next[2]), z);
    }
}

}  // namespace
}  // namespace mixpriv
