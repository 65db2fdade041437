#include "sampling.h"

#include <cmath>
#include <string>

#include "mixpriv/error.h"

namespace mixpriv {
namespace {

constexpr double largest_entry = 1e30;  // no sum or product of it with an index overflows

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

}  // namespace

Lattice lattice_of(const View3& view) {
    Lattice lattice;
    int64_t stride = 1;
    for (int a = 2; a >= 0; --a) {
        lattice.size[a] = view.shape.size[a];
        lattice.stride[a] = view.flipped[a] ? -stride : stride;
        lattice.next[a] = lattice.size[a] > 1 ? lattice.stride[a] : 0;
        stride *= lattice.size[a];
    }
    return lattice;
}

Normal normal_of(const char* name, const Range& range) {
    const auto lo = static_cast<float>(range.lo), hi = static_cast<float>(range.hi);
    const float scale = 1.0f / (hi - lo);
    if (!(std::isfinite(lo) && std::isfinite(hi) && lo < hi && std::isfinite(scale) && scale > 0.0f))
        throw InputError(std::string(name) + ": expected finite (lo, hi) with lo < hi");
    return {lo, scale};
}

Box around(const Lattice& lattice) {
    Box box;
    for (int a = 0; a < 3; ++a) {
        box.lo[a] = -0.5;
        box.hi[a] = static_cast<double>(lattice.size[a]) - 0.5;
    }
    return box;
}

// Coordinates are monotonic in k even after rounding, so bisection finds the exact ends.
Interval inside(const Line& line, const Box& box, int64_t count) {
    Interval all{0, count};
    for (int a = 0; a < 3; ++a) {
        const double lo = box.lo[a], hi = box.hi[a];
        const double ends[2] = {at(line, a, 0), at(line, a, count - 1)};
        if (std::min(ends[0], ends[1]) >= lo && std::max(ends[0], ends[1]) <= hi) continue;
        const bool up = line.step[a] >= 0.0;
        const auto begins = [&](int64_t k) { return up ? at(line, a, k) >= lo : at(line, a, k) <= hi; };
        const auto is_over = [&](int64_t k) { return up ? at(line, a, k) > hi : at(line, a, k) < lo; };
        all = {std::max(all.begin, first_where(count, begins)), std::min(all.end, first_where(count, is_over))};
    }
    return all.begin < all.end ? all : Interval{0, 0};
}

int row_axis(const Matrix& matrix) {
    int best = 2;
    for (int c = 1; c >= 0; --c)
        if (std::abs(matrix[2][static_cast<size_t>(c)]) > std::abs(matrix[2][static_cast<size_t>(best)])) best = c;
    return best;
}

void check_geometry(const Lattice& lattice, const Matrix& matrix) {
    for (const int64_t n : lattice.size)
        if (n > INT32_MAX) throw InputError("volume to resample: expected axes below 2^31 voxels, got a longer one");
    for (const auto& line : matrix)
        for (const double entry : line)
            if (!(std::abs(entry) < largest_entry))
                throw InputError("matrix: expected finite entries, below 1e30 in size");
}

}  // namespace mixpriv
