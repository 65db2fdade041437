// The server's answer to the unmixer's input.

#include <algorithm>
#include <atomic>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"
#include "spread.h"

namespace mixpriv {
namespace {

constexpr int64_t block = 2048;  // channel by channel on this many voxels, so that it writes one stream

struct Unpacking {
    const uint8_t *answer, *reference_labels;
    float* unmixer_input;
    float weight, rest;
    int64_t classes, count;
    bool stream;
};

// Whether every label is below a number. Without a way out of the loop, so that compilers vectorise it.
bool all_below(const uint8_t* labels, int64_t count, int64_t classes) {
    uint8_t largest = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, labels[i]);
    return largest < classes;
}

void unpack_block(const RowKernels& rows, const Unpacking& all, int64_t begin, int64_t count) {
    uint16_t sum[block] = {};
    const auto channel = [&](int64_t index, int64_t label) {
        return UnmixRow{all.reference_labels + begin,
                        all.unmixer_input + index * all.count + begin,
                        all.weight,
                        all.rest,
                        static_cast<uint8_t>(label),
                        all.stream};
    };
    for (int64_t c = 1; c < all.classes; ++c)
        rows.unmix(channel(c, c), all.answer + (c - 1) * all.count + begin, sum, count);
    rows.unmix_background(channel(0, 0), sum, count);
    for (int64_t c = 0; c < all.classes; ++c) rows.one_hot(channel(all.classes + c, c), count);
    rows.fill_weight(channel(2 * all.classes, 0), count);
}

}  // namespace

void unpack(const uint8_t* answer, const uint8_t* reference_labels, double weight, int64_t classes, int64_t count,
            float* unmixer_input, Isa isa, int threads) {
    const auto share = static_cast<float>(weight);
    if (!(share > 0.0f && weight <= 1.0)) throw InputError("weight: expected a number above 0, at most 1");
    const bool stream = 4 * (2 * classes + 1) * count >= stream_bytes;
    const Unpacking all{answer, reference_labels, unmixer_input, share, 1.0f - share, classes, count, stream};
    const RowKernels& rows = rows_for(isa);
    std::atomic<bool> good{true};
    parallel_for(count, voxel_grain, threads, [&](int64_t begin, int64_t end, int) {
        if (!all_below(reference_labels + begin, end - begin, classes)) good = false;
        for (int64_t from = begin; good && from < end; from += block)
            unpack_block(rows, all, from, std::min(block, end - from));
        rows.finish();
    });
    if (!good)
        throw InputError("reference_labels: expected labels below the number of classes, " + std::to_string(classes) +
                         ", got larger ones");
}

}  // namespace mixpriv
