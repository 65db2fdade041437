// Sums and arg-max over class probabilities.

#include <algorithm>

#include "mixpriv/kernels.h"
#include "mixpriv/parallel.h"

namespace mixpriv {
namespace {

constexpr int64_t grain = 1 << 15;
constexpr int64_t block = 1024;

void argmax_block(const float* probabilities, int64_t classes, int64_t count, uint8_t* labels, int64_t length) {
    float best[block];
    std::copy_n(probabilities, length, best);
    std::fill_n(labels, length, uint8_t{0});
    for (int64_t c = 1; c < classes; ++c) {
        const float* channel = probabilities + c * count;
        for (int64_t i = 0; i < length; ++i) {
            labels[i] = channel[i] > best[i] ? static_cast<uint8_t>(c) : labels[i];
            best[i] = channel[i] > best[i] ? channel[i] : best[i];
        }
    }
}

}  // namespace

void accumulate(float* total, const float* probabilities, int64_t count, int threads) {
    parallel_for(count, grain, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) total[i] += probabilities[i];
    });
}

void argmax(const float* probabilities, int64_t classes, int64_t count, uint8_t* labels, int threads) {
    parallel_for(count, grain, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t from = begin; from < end; from += block)
            argmax_block(probabilities + from, classes, count, labels + from, std::min(block, end - from));
    });
}

}  // namespace mixpriv
