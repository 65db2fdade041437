// Exact percentiles without sorting: three rounds of histograms over the order-preserving integer form of the floats,
// each looking into one bin of the round before.

#include <cmath>
#include <vector>

#include "cuda/launch.h"
#include "mixpriv/error.h"
#include "mixpriv/float_order.h"

namespace mixpriv::cuda {
namespace {

constexpr int ranks = 4;  // two percentiles, each between two order statistics
constexpr int digits = 3;
constexpr int shift_of[digits] = {21, 10, 0}, bits_of[digits] = {11, 11, 10};
constexpr int bins = 1 << 11;
constexpr int64_t histogram_blocks = 1024;
constexpr int64_t voxels_per_thread = 16;  // at least: a block's histogram must be worth adding up

// Which digit is counted, of the keys that begin with one of the prefixes.
struct Round {
    int shift, bits, slots;
    uint64_t prefix[ranks];
};

using Count = unsigned long long;

__global__ void histogram_kernel(const float* image, const uint8_t* mask, int64_t count, Round round, Count* total) {
    __shared__ unsigned part[ranks * bins];
    each_thread_then_wait([&] {
        for (int n = static_cast<int>(threadIdx.x); n < round.slots * bins; n += static_cast<int>(blockDim.x))
            part[n] = 0;
    });
    each_thread_then_wait([&] {
        const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
        for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
            if (mask != nullptr && mask[i] == 0) continue;
            const uint64_t key = key_of(image[i]);
            const auto bin = static_cast<int>((key >> round.shift) & ((uint64_t{1} << round.bits) - 1));
            for (int slot = 0; slot < ranks; ++slot)  // a fixed number: unrolled, the prefixes stay in registers
                if (slot < round.slots && key >> (round.shift + round.bits) == round.prefix[slot])
                    atomicAdd(&part[slot * bins + bin], 1u);
        }
    });
    each_thread([&] {
        for (int n = static_cast<int>(threadIdx.x); n < round.slots * bins; n += static_cast<int>(blockDim.x))
            if (part[n] != 0) atomicAdd(&total[n], static_cast<Count>(part[n]));
    });
}

class Counter {
  public:
    Counter(const float* image, const uint8_t* mask, int64_t count, cudaStream_t stream)
        : image_(image),
          mask_(mask),
          count_(count),
          stream_(stream),
          total_(sizeof(Count) * ranks * bins, device(), stream) {}

    std::vector<Count> operator()(const Round& round) {
        const size_t bytes = sizeof(Count) * static_cast<size_t>(round.slots) * bins;
        auto* total = static_cast<Count*>(total_.data());
        SAFE_CALL(cudaMemsetAsync(total, 0, bytes, stream_));
        const int64_t blocks =
            std::min({blocks_for(count_, block_size * voxels_per_thread), histogram_blocks, most_blocks});
        launch(histogram_kernel, dim3(static_cast<unsigned>(blocks)), dim3(block_size), stream_, image_, mask_, count_,
               round, total);
        total_.after_use(stream_);
        std::vector<Count> found(bytes / sizeof(Count));
        download(found.data(), total, bytes, stream_);
        return found;
    }

  private:
    static int device() {
        int device = 0;
        SAFE_CALL(cudaGetDevice(&device));
        return device;
    }
    const float* image_;
    const uint8_t* mask_;
    int64_t count_;
    cudaStream_t stream_;
    Buffer total_;
};

// How many voxels are inside; the first digit holds sign, exponent and two bits, so NaN and Inf have bins of their own.
int64_t check_counts(const std::vector<Count>& coarse) {
    constexpr int exponents = 4;  // bins of one exponent
    int64_t inside = 0, not_finite = 0;
    for (int b = 0; b < bins; ++b) {
        const auto found = static_cast<int64_t>(coarse[static_cast<size_t>(b)]);
        inside += found;
        if (b < exponents || b >= bins - exponents) not_finite += found;
    }
    if (inside == 0) throw InputError("mask: expected at least one voxel inside, got none");
    if (not_finite != 0)
        throw InputError("image: expected finite values, got NaN or Inf in " + std::to_string(not_finite) + " of " +
                         std::to_string(inside) + " voxels");
    return inside;
}

// An order statistic that is being found, digit by digit.
struct Search {
    int64_t rank;
    uint64_t prefix;

    void descend(const Count* histogram, int bits) {
        uint64_t bin = 0;
        while (rank >= static_cast<int64_t>(histogram[bin])) rank -= static_cast<int64_t>(histogram[bin++]);
        prefix = prefix << bits | bin;
    }
};

Round round_of(int digit, const Search (&searches)[ranks], int (&slot)[ranks]) {
    Round round{shift_of[digit], bits_of[digit], 0, {}};
    for (int r = 0; r < ranks; ++r) {
        slot[r] = 0;
        while (slot[r] < round.slots && round.prefix[slot[r]] != searches[r].prefix) ++slot[r];
        if (slot[r] == round.slots) round.prefix[round.slots++] = searches[r].prefix;
    }
    return round;
}

double between(double a, double b, double fraction) {  // as NumPy: exact at both ends
    return fraction < 0.5 ? a + (b - a) * fraction : b - (b - a) * (1.0 - fraction);
}

}  // namespace

Range robust_range(const float* image, const uint8_t* mask, int64_t count, double lower_percent, double upper_percent,
                   cudaStream_t stream) {
    if (!(0.0 <= lower_percent && lower_percent < upper_percent && upper_percent <= 100.0))
        throw InputError("lower_percent, upper_percent: expected 0 <= lower < upper <= 100");
    Counter count_digit(image, mask, count, stream);
    Search searches[ranks] = {};
    double position[2] = {};
    for (int digit = 0; digit < digits; ++digit) {
        int slot[ranks];
        const std::vector<Count> histogram = count_digit(round_of(digit, searches, slot));
        if (digit == 0) {
            const int64_t inside = check_counts(histogram);
            position[0] = lower_percent / 100.0 * static_cast<double>(inside - 1);
            position[1] = upper_percent / 100.0 * static_cast<double>(inside - 1);
            for (int r = 0; r < ranks; ++r)
                searches[r].rank = std::min(static_cast<int64_t>(position[r / 2]) + r % 2, inside - 1);
        }
        for (int r = 0; r < ranks; ++r) searches[r].descend(histogram.data() + slot[r] * bins, bits_of[digit]);
    }
    double value[ranks];
    for (int r = 0; r < ranks; ++r) value[r] = float_of(static_cast<uint32_t>(searches[r].prefix));
    return {between(value[0], value[1], position[0] - std::floor(position[0])),
            between(value[2], value[3], position[1] - std::floor(position[1]))};
}

}  // namespace mixpriv::cuda
