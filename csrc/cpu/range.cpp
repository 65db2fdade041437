// Exact percentiles without sorting. A sample brackets both ends; one pass counts what is below each bracket and
// collects what is inside it. Where that does not settle it (few voxels, not finite ones, a sample that misleads), two
// rounds of histograms over the order-preserving integer form of the floats do. Counts are integers, so the result
// does not depend on how the voxels are split over threads.

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "mixpriv/error.h"
#include "mixpriv/float_order.h"
#include "mixpriv/kernels.h"
#include "spread.h"

namespace mixpriv {
namespace {

constexpr int64_t grain = 1 << 17;
constexpr int64_t bins = 1 << 16;
constexpr int ranks = 4;  // two percentiles, each between two order statistics
constexpr uint8_t no_slot = 0xFF;

using Histogram = std::vector<int64_t>;

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

// The four order statistics that two percentiles lie between.
struct Ranks {
    double position[2];
    int64_t rank[ranks];

    Ranks(int64_t inside, double lower_percent, double upper_percent)
        : position{lower_percent / 100.0 * static_cast<double>(inside - 1),
                   upper_percent / 100.0 * static_cast<double>(inside - 1)} {
        for (int r = 0; r < ranks; ++r) rank[r] = std::min(static_cast<int64_t>(position[r / 2]) + r % 2, inside - 1);
    }

    Range between_values(const double* value) const {
        return {between(value[0], value[1], position[0] - std::floor(position[0])),
                between(value[2], value[3], position[1] - std::floor(position[1]))};
    }
};

Range range_by_histograms(const float* image, const uint8_t* mask, int64_t count, double lower_percent,
                          double upper_percent, int threads) {
    const Histogram coarse =
        count_keys(image, mask, count, bins, threads, [](int64_t* histogram, uint32_t key) { ++histogram[key >> 16]; });
    Ranks of(check_counts(coarse), lower_percent, upper_percent);
    int64_t bin[ranks];
    std::vector<uint8_t> slot_of(static_cast<size_t>(bins), no_slot);
    uint8_t slots = 0;
    for (int r = 0; r < ranks; ++r) {
        bin[r] = bin_of(coarse.data(), &of.rank[r]);
        uint8_t& slot = slot_of[static_cast<size_t>(bin[r])];
        if (slot == no_slot) slot = slots++;
    }
    const Histogram fine = count_keys(image, mask, count, slots * bins, threads, [&](int64_t* histogram, uint32_t key) {
        const uint8_t slot = slot_of[key >> 16];
        if (slot != no_slot) ++histogram[slot * bins + (key & 0xFFFFu)];
    });
    double value[ranks];
    for (int r = 0; r < ranks; ++r) {
        const int64_t low_half = bin_of(fine.data() + slot_of[static_cast<size_t>(bin[r])] * bins, &of.rank[r]);
        value[r] = float_of(static_cast<uint32_t>(bin[r] * bins + low_half));
    }
    return of.between_values(value);
}

constexpr int64_t sample_runs = 2048, run_length = 16, smallest_sample = 1024;

// Finite voxels inside the mask, from short runs all over the image, one in each stretch of it. Where in its stretch
// follows no pattern: at even steps all runs of a 256³ image would begin at a row's end, in the air.
std::vector<float> sample_of(const float* image, const uint8_t* mask, int64_t count) {
    std::vector<float> sample;
    sample.reserve(static_cast<size_t>(sample_runs * run_length));
    const int64_t stretch = count / sample_runs;
    uint32_t scattered = 0;
    for (int64_t run = 0; run < sample_runs; ++run) {
        scattered = scattered * 1664525u + 1013904223u;
        const int64_t begin = run * stretch + (scattered >> 8) % (stretch - run_length + 1);
        for (int64_t i = begin; i < begin + run_length; ++i)
            if ((mask == nullptr || mask[i] != 0) && std::isfinite(image[i])) sample.push_back(image[i]);
    }
    return sample;
}

// Where a percentile surely lies, from a sample; neighbours resemble each other, so the margin is wide.
Bracket bracket_of(std::vector<float> sample, double percent) {
    const auto size = static_cast<double>(sample.size()), q = percent / 100.0;
    const double centre = q * (size - 1.0), margin = 8.0 * std::sqrt(size * q * (1.0 - q)) + 16.0;
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const auto low = static_cast<int64_t>(std::floor(centre - margin)),
               high = static_cast<int64_t>(centre + margin) + 1;
    const auto count = static_cast<int64_t>(sample.size());
    auto first = sample.begin(), last = sample.end();
    Bracket bracket{};
    bracket.low = -infinity, bracket.high = infinity;
    const auto take_high = [&] {
        if (high >= count) return;
        std::nth_element(first, sample.begin() + high, last);
        last = sample.begin() + high;
        bracket.high = *last;
    };
    const auto take_low = [&] {
        if (low < 0) return;
        std::nth_element(first, sample.begin() + low, last);
        bracket.low = sample[static_cast<size_t>(low)];
        first = sample.begin() + low;
    };
    // the one nearer to its end first: few values are left for the other
    if (q < 0.5) {
        take_high();
        take_low();
    } else {
        take_low();
        take_high();
    }
    return bracket;
}

// One worker's counts, with room for what it collects.
struct Collector {
    std::unique_ptr<float[]> in_it[2];
    Tally tally{};

    Collector(const Bracket* brackets, int64_t room) {
        for (int e = 0; e < 2; ++e) {
            // not initialised: most of it is never touched
            in_it[e].reset(new float[static_cast<size_t>(room)]);
            tally.end[e] = brackets[e];
            tally.end[e].in_it = in_it[e].get();
            tally.end[e].room = brackets[e].low == brackets[e].high ? 0 : room;  // then counting is enough
        }
    }
};

// The order statistics `rank` and `next` (the same or one more) of values between two limits, found among those of
// their slice, of which there are few. `each` calls a function with every value.
template <class Each>
void select(const Each& each, float low, float high, int64_t rank, int64_t next, double* value) {
    constexpr int slices = 1024;
    const float width = high - low, scale = static_cast<float>(slices) / width;
    const bool one = rank == next;
    std::vector<float> own;
    if (std::isfinite(width) && std::isfinite(scale)) {
        // a larger value is never in an earlier slice
        const auto slice_of = [&](float x) { return std::min(static_cast<int>((x - low) * scale), slices - 1); };
        int64_t count[slices] = {};
        each([&](float x) { ++count[slice_of(x)]; });
        const auto slice = static_cast<int>(bin_of(count, &rank)), last = static_cast<int>(bin_of(count, &next));
        each([&](float x) {
            if (const int at = slice_of(x); slice <= at && at <= last) own.push_back(x);
        });
    } else {
        each([&](float x) { own.push_back(x); });
    }
    const auto nth = own.begin() + rank;
    std::nth_element(own.begin(), nth, own.end());
    value[0] = *nth;
    value[1] = one ? value[0] : *std::min_element(nth + 1, own.end());
}

// The order statistics of one end, from the counts of all workers.
struct End {
    float low, high;
    int64_t below = 0, found = 0;
    std::vector<const Bracket*> parts;
    bool complete = true;

    End(const std::vector<Collector>& workers, int e)
        : low(workers[0].tally.end[e].low), high(workers[0].tally.end[e].high) {
        for (const Collector& worker : workers) {
            const Bracket& own = worker.tally.end[e];
            below += own.below;
            found += own.found;
            complete = complete && own.found <= own.room;
            parts.push_back(&own);
        }
    }

    // The values at two ranks, the same or neighbours; false if they were not found.
    bool values_at(const int64_t* rank, double* value) const {
        if (rank[0] < below || rank[1] >= below + found) return false;
        if (low == high) {
            value[0] = value[1] = low;
            return true;
        }
        if (!complete) return false;
        const auto each = [&](const auto& call) {
            for (const Bracket* part : parts) std::for_each(part->in_it, part->in_it + part->found, call);
        };
        select(each, low, high, rank[0] - below, rank[1] - below, value);
        return true;
    }
};

// False if the sample did not lead to it.
bool range_by_brackets(const float* image, const uint8_t* mask, int64_t count, double lower_percent,
                       double upper_percent, Isa isa, int threads, Range* range) {
    if (count < sample_runs * run_length) return false;
    const std::vector<float> sample = sample_of(image, mask, count);
    if (static_cast<int64_t>(sample.size()) < smallest_sample) return false;
    const double percents[2] = {lower_percent, upper_percent};
    Bracket brackets[2];
    parallel_for(2, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t e = begin; e < end; ++e) brackets[e] = bracket_of(sample, percents[e]);
    });
    std::vector<Collector> workers;
    for (int w = worker_count(count, grain, threads); w > 0; --w) workers.emplace_back(brackets, count / 8);
    const RowKernels& rows = rows_for(isa);
    parallel_for(count, grain, threads, [&](int64_t begin, int64_t end, int worker) {
        Tally& tally = workers[static_cast<size_t>(worker)].tally;
        rows.tally(image + begin, mask == nullptr ? nullptr : mask + begin, end - begin, &tally);
    });
    int64_t inside = 0, finite = 0;
    for (const Collector& worker : workers) {
        inside += worker.tally.inside;
        finite += worker.tally.finite;
    }
    if (finite != inside) return false;
    const Ranks of(inside, lower_percent, upper_percent);
    const End ends[2] = {End(workers, 0), End(workers, 1)};
    double value[ranks];
    bool found[2];
    parallel_for(2, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t e = begin; e < end; ++e) found[e] = ends[e].values_at(of.rank + 2 * e, value + 2 * e);
    });
    if (!found[0] || !found[1]) return false;
    *range = of.between_values(value);
    return true;
}

}  // namespace

Range robust_range(const float* image, const uint8_t* mask, int64_t count, double lower_percent, double upper_percent,
                   Isa isa, int threads) {
    if (!(0.0 <= lower_percent && lower_percent < upper_percent && upper_percent <= 100.0))
        throw InputError("lower_percent, upper_percent: expected 0 <= lower < upper <= 100");
    Range range{};
    if (range_by_brackets(image, mask, count, lower_percent, upper_percent, isa, threads, &range)) return range;
    return range_by_histograms(image, mask, count, lower_percent, upper_percent, threads);
}

}  // namespace mixpriv
