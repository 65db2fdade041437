// Exact percentiles without sorting: two rounds of histograms over the order-preserving integer form of the floats.
// Counts are integers, so the result does not depend on how the voxels are split over threads.

#include <cmath>
#include <cstring>
#include <vector>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"
#include "mixpriv/parallel.h"

namespace mixpriv {
namespace {

constexpr int64_t grain = 1 << 17;
constexpr int64_t bins = 1 << 16;
constexpr int ranks = 4;  // two percentiles, each between two order statistics
constexpr uint8_t no_slot = 0xFF;

using Histogram = std::vector<int64_t>;

// Unsigned order of the result is the order of the floats.
uint32_t key_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits ^ ((bits >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
}

float float_of(uint32_t key) {
    const uint32_t bits = key ^ ((key >> 31) != 0 ? 0x80000000u : 0xFFFFFFFFu);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// Calls add(histogram, key) for every voxel inside the mask; one histogram per worker, summed at the end.
template <class Add>
Histogram count_keys(const float* image, const uint8_t* mask, int64_t count, int64_t size, int threads,
                     const Add& add) {
    std::vector<Histogram> parts(static_cast<size_t>(worker_count(count, grain, threads)),
                                 Histogram(static_cast<size_t>(size)));
    parallel_for(count, grain, threads, [&](int64_t begin, int64_t end, int worker) {
        int64_t* histogram = parts[static_cast<size_t>(worker)].data();
        for (int64_t i = begin; i < end; ++i)
            if (mask == nullptr || mask[i] != 0) add(histogram, key_of(image[i]));
    });
    for (size_t p = 1; p < parts.size(); ++p)
        for (size_t b = 0; b < parts[0].size(); ++b) parts[0][b] += parts[p][b];
    return std::move(parts[0]);
}

// The bin that holds the order statistic `rank`; `rank` becomes its rank within the bin.
int64_t bin_of(const int64_t* histogram, int64_t* rank) {
    int64_t bin = 0;
    while (*rank >= histogram[bin]) *rank -= histogram[bin++];
    return bin;
}

int64_t check_counts(const Histogram& coarse) {
    int64_t inside = 0, not_finite = 0;
    const int64_t first_finite = key_of(-INFINITY) / bins + 1, infinity = key_of(INFINITY) / bins;
    for (int64_t b = 0; b < bins; ++b) {
        inside += coarse[static_cast<size_t>(b)];
        if (b < first_finite || b >= infinity) not_finite += coarse[static_cast<size_t>(b)];
    }
    if (inside == 0) throw InputError("mask: expected at least one voxel inside, got none");
    if (not_finite != 0)
        throw InputError("image: expected finite values, got NaN or Inf in " + std::to_string(not_finite) + " of " +
                         std::to_string(inside) + " voxels");
    return inside;
}

double between(double a, double b, double fraction) {  // as NumPy: exact at both ends
    return fraction < 0.5 ? a + (b - a) * fraction : b - (b - a) * (1.0 - fraction);
}

}  // namespace

Range robust_range(const float* image, const uint8_t* mask, int64_t count, double lower_percent, double upper_percent,
                   int threads) {
    if (!(0.0 <= lower_percent && lower_percent < upper_percent && upper_percent <= 100.0))
        throw InputError("lower_percent, upper_percent: expected 0 <= lower < upper <= 100");
    const Histogram coarse =
        count_keys(image, mask, count, bins, threads, [](int64_t* histogram, uint32_t key) { ++histogram[key >> 16]; });
    const int64_t inside = check_counts(coarse);
    const double position[2] = {lower_percent / 100.0 * static_cast<double>(inside - 1),
                                upper_percent / 100.0 * static_cast<double>(inside - 1)};
    int64_t rank[ranks], bin[ranks];
    std::vector<uint8_t> slot_of(static_cast<size_t>(bins), no_slot);
    uint8_t slots = 0;
    for (int r = 0; r < ranks; ++r) {
        rank[r] = std::min(static_cast<int64_t>(position[r / 2]) + r % 2, inside - 1);
        bin[r] = bin_of(coarse.data(), &rank[r]);
        uint8_t& slot = slot_of[static_cast<size_t>(bin[r])];
        if (slot == no_slot) slot = slots++;
    }
    const Histogram fine = count_keys(image, mask, count, slots * bins, threads, [&](int64_t* histogram, uint32_t key) {
        const uint8_t slot = slot_of[key >> 16];
        if (slot != no_slot) ++histogram[slot * bins + (key & 0xFFFFu)];
    });
    double value[ranks];
    for (int r = 0; r < ranks; ++r) {
        const int64_t low_half = bin_of(fine.data() + slot_of[static_cast<size_t>(bin[r])] * bins, &rank[r]);
        value[r] = float_of(static_cast<uint32_t>(bin[r] * bins + low_half));
    }
    return {between(value[0], value[1], position[0] - std::floor(position[0])),
            between(value[2], value[3], position[1] - std::floor(position[1]))};
}

}  // namespace mixpriv
