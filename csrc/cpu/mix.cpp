// The row kernels spread over threads: mixing before the server, unpacking its answer after it.

#include <algorithm>
#include <cmath>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"
#include "mixpriv/parallel.h"
#include "mixpriv/rows.h"

namespace mixpriv {
namespace {

constexpr int64_t grain = 1 << 15;
constexpr int64_t block = 1024;  // unpack works channel by channel on this many voxels, so that it writes one stream

const RowKernels& rows_for(Isa isa) {
#ifdef MIXPRIV_X86_64
    if (isa == Isa::avx512) return avx512_rows;
    if (isa == Isa::avx2) return avx2_rows;
#endif
    static_cast<void>(isa);
    return baseline_rows;
}

// run(kernels, begin, end): the chosen kernels up to the last multiple of their width, the baseline for the rest.
template <class Run>
void head_and_tail(const RowKernels& rows, int64_t begin, int64_t end, const Run& run) {
    const int64_t split = end - (end - begin) % row_multiple;
    run(rows, begin, split);
    run(baseline_rows, split, end);
}

struct Unpacking {
    const uint8_t *answer, *reference_labels;
    float* unmixer_input;
    float weight, rest;
    int64_t classes, count;
};

void unpack_block(const RowKernels& rows, const Unpacking& all, int64_t begin, int64_t end) {
    uint16_t sum[block] = {};
    const int64_t length = end - begin;
    const uint8_t* const labels = all.reference_labels + begin;
    float* const out = all.unmixer_input + begin;
    const auto row = [&](int64_t c) {
        return UnmixRow{labels, out + c * all.count, all.weight, all.rest, static_cast<uint8_t>(c)};
    };
    for (int64_t c = 1; c < all.classes; ++c) rows.unmix(row(c), all.answer + (c - 1) * all.count + begin, sum, length);
    rows.unmix_background(row(0), sum, length);
    for (int64_t c = 0; c < all.classes; ++c)
        rows.one_hot(labels, static_cast<uint8_t>(c), out + (all.classes + c) * all.count, length);
    std::fill_n(out + 2 * all.classes * all.count, length, all.weight);
}

}  // namespace

void mix(const MixInput& input, uint16_t* mixture, int64_t count, Isa isa, int threads) {
    if (!(input.weight >= 0.0 && input.weight <= 1.0)) throw InputError("weight: expected a number from 0 to 1");
    const auto lo = static_cast<float>(input.target_range.lo), hi = static_cast<float>(input.target_range.hi);
    const float scale = 1.0f / (hi - lo);
    if (!(std::isfinite(lo) && std::isfinite(hi) && lo < hi && std::isfinite(scale) && scale > 0.0f))
        throw InputError("target_range: expected finite (lo, hi) with lo < hi");
    if (input.reference == nullptr && input.weight != 1.0)
        throw InputError("reference: expected an array unless the weight is 1, got None");
    const auto weight = static_cast<float>(input.weight);
    const RowKernels& rows = rows_for(isa);
    parallel_for(count, grain, threads, [&](int64_t begin, int64_t end, int) {
        head_and_tail(rows, begin, end, [&](const RowKernels& kernels, int64_t first, int64_t last) {
            const bool mixed = input.reference != nullptr;
            const MixRow row{input.target + first,
                             input.target_mask + first,
                             mixed ? input.reference + first : nullptr,
                             mixed ? input.reference_mask + first : nullptr,
                             mixture + first,
                             lo,
                             scale,
                             weight,
                             1.0f - weight};
            kernels.mix(row, last - first);
        });
    });
}

void unpack(const uint8_t* answer, const uint8_t* reference_labels, double weight, int64_t classes, int64_t count,
            float* unmixer_input, Isa isa, int threads) {
    const auto share = static_cast<float>(weight);
    if (!(share > 0.0f && weight <= 1.0)) throw InputError("weight: expected a number above 0, at most 1");
    if (*std::max_element(reference_labels, reference_labels + count) >= classes)
        throw InputError("reference_labels: expected labels below the number of classes, " + std::to_string(classes) +
                         ", got larger ones");
    const Unpacking all{answer, reference_labels, unmixer_input, share, 1.0f - share, classes, count};
    const RowKernels& rows = rows_for(isa);
    parallel_for(count, grain, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t from = begin; from < end; from += block)
            head_and_tail(rows, from, std::min(from + block, end),
                          [&](const RowKernels& kernels, int64_t first, int64_t last) {
                              unpack_block(kernels, all, first, last);
                          });
    });
}

}  // namespace mixpriv
