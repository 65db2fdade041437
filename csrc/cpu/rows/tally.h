#pragma once

// Counting what lies below, and collecting what lies in, the brackets of a robust range.

#include "rows/vectors.h"

namespace mixpriv {
namespace {

template <class V>
inline int64_t sum_of(V x) {
    int64_t sum = 0;
    for (uint32_t n = 0; n < sizeof(V) / 4; ++n) sum += x[n];
    return sum;
}

inline void collect(float x, Bracket* end) {
    if (end->found < end->room) end->in_it[end->found] = x;
    ++end->found;
}

void tally_voxels(const float* image, const uint8_t* mask, int64_t count, Tally* found) {
    for (int64_t i = 0; i < count; ++i) {
        if (mask != nullptr && mask[i] == 0) continue;
        ++found->inside;
        found->finite += image[i] - image[i] == 0.0f ? 1 : 0;
        for (Bracket& end : found->end) {
            end.below += image[i] < end.low ? 1 : 0;
            if (image[i] >= end.low && image[i] <= end.high) collect(image[i], &end);
        }
    }
}

inline bool any_of_line(const uint8_t* mask) {
    uint64_t first, second;
    std::memcpy(&first, mask, sizeof first);
    std::memcpy(&second, mask + sizeof first, sizeof second);
    return (first | second) != 0;
}

// Counts in vectors; one lane counts at most as far as a row is long.
struct Counts {
    Vector<int32_t, lanes> inside, finite, below[2];
};

// Counts a vector. Returns a bit for each of its voxels in the first bracket, and above them for those in the second.
constexpr uint32_t other_end = 16;
template <bool masked>
inline uint32_t count_vector(const float* image, const uint8_t* mask, const Tally& found, Counts* counts) {
    auto x = load<lanes>(image);
    if (masked) {
        const auto in = load_bytes<lanes>(mask);
        counts->inside = in != 0 ? counts->inside + 1 : counts->inside;
        x = in != 0 ? x : all_lanes<lanes>(__builtin_nanf(""));  // neither finite nor below nor in a bracket
    }
    counts->finite = x - x == 0.0f ? counts->finite + 1 : counts->finite;
    uint32_t in_it[2];
    for (int e = 0; e < 2; ++e) {
        counts->below[e] = x < found.end[e].low ? counts->below[e] + 1 : counts->below[e];
        in_it[e] = bits_between(x, found.end[e].low, found.end[e].high);
    }
    return in_it[0] | in_it[1] << other_end;
}

// In blocks: a first loop notes, without a choice, which vectors hold a voxel of a bracket, a second one collects them.
template <bool masked>
void tally_lines(const float* image, const uint8_t* mask, int64_t count, Tally* found) {
    constexpr int64_t block = 256 * lanes;
    const Tally limits = *found;
    Counts counts{};
    struct {
        uint32_t voxel, bits;
    } hits[block / lanes + 1];
    for (int64_t begin = 0; begin < count; begin += block) {
        const int64_t end = count - begin < block ? count : begin + block;
        int64_t hit_count = 0;
        for (int64_t from = begin; from < end; from += line) {
            if (masked && !any_of_line(mask + from)) continue;
            fetch_ahead(image + from);
            for (int64_t i = from; i < from + line; i += lanes) {
                const uint32_t bits = count_vector<masked>(image + i, mask + i, limits, &counts);
                hits[hit_count] = {static_cast<uint32_t>(i - begin), bits};
                hit_count += bits != 0 ? 1 : 0;
            }
        }
        hits[hit_count].bits = 0;
        uint32_t bits = hits[0].bits;
        for (int64_t h = 0; h < hit_count;) {
            const auto bit = static_cast<uint32_t>(__builtin_ctz(bits));
            collect(image[begin + hits[h].voxel + bit % other_end], &found->end[bit / other_end]);
            bits &= bits - 1;
            h += bits == 0 ? 1 : 0;
            bits = bits == 0 ? hits[h].bits : bits;
        }
    }
    found->inside += masked ? sum_of(counts.inside) : count;
    found->finite += sum_of(counts.finite);
    for (int e = 0; e < 2; ++e) found->end[e].below += sum_of(counts.below[e]);
}

void tally(const float* image, const uint8_t* mask, int64_t count, Tally* found) {
    const int64_t whole = count - count % line;
    mask == nullptr ? tally_lines<false>(image, mask, whole, found) : tally_lines<true>(image, mask, whole, found);
    tally_voxels(image + whole, mask == nullptr ? nullptr : mask + whole, count - whole, found);
}

}  // namespace
}  // namespace mixpriv
