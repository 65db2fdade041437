#pragma once

// Mixing, unmixing and classes, voxel by voxel.

#include "rows/vectors.h"

namespace mixpriv {
namespace {

// NaN becomes 0.
template <class V>
inline V clip01(V x) {
    return smaller(larger(x, V{}), V{} + 1.0f);
}

// The values where the mask is not 0, else 0.
template <int64_t N>
inline Vector<float, N> masked(Vector<float, N> x, const uint8_t* mask) {
    return load_bytes<N>(mask) != 0 ? x : Vector<float, N>{};
}

template <int64_t N, bool with_reference>
inline Vector<float, N> mixed(const MixRow& row, int64_t i) {
    const auto target = clip01((load<N>(row.target + i) - row.lo) * row.scale);
    const auto weighted = row.weight * masked<N>(target, row.target_mask + i);
    if (!with_reference) return weighted;
    return weighted + row.rest * masked<N>(clip01(load<N>(row.reference + i)), row.reference_mask + i);
}

template <bool with_reference, class To, class Round>
inline void mix_row(const MixRow& given, To* mixture, int64_t count, const Round& rounded) {
    const MixRow row = given;
    const auto fetch = [&](int64_t i) {
        fetch_ahead(row.target + i);
        fetch_ahead(row.target_mask + i);
        if (!with_reference) return;
        fetch_ahead(row.reference + i);
        fetch_ahead(row.reference_mask + i);
    };
    for_vectors(mixture, count, fetch, [&](auto n, int64_t i) {
        store(mixture + i, rounded(mixed<n.count, with_reference>(row, i)), row.stream);
    });
}

template <class To, class Round>
inline void mix_rounded(const MixRow& row, To* mixture, int64_t count, const Round& rounded) {
    row.reference == nullptr ? mix_row<false>(row, mixture, count, rounded)
                             : mix_row<true>(row, mixture, count, rounded);
}

void mix(const MixRow& row, int64_t count) {
    mix_rounded(row, row.mixture, count, [](auto x) { return halves_of(x); });
}

void mix_exact(const MixRow& row, float* mixture, int64_t count) {
    mix_rounded(row, mixture, count, [](auto x) { return x; });
}

// x where the reference has the label, else 0.
template <int64_t N>
inline Vector<float, N> where_label(const UnmixRow& row, int64_t i, float x) {
    return load_bytes<N>(row.reference_labels + i) == row.label ? all_lanes<N>(x) : Vector<float, N>{};
}

// The division by 255 is a sum of two products: for every byte it rounds to the same bits.
template <int64_t N>
inline Vector<float, N> unmixed(const UnmixRow& row, int64_t i, Vector<int32_t, N> bytes) {
    const auto b = __builtin_convertvector(bytes, Vector<float, N>);
    const auto p = b * (257.0f / 65536.0f) + b * (1.0f / 16711680.0f);
    const auto share = (p - where_label<N>(row, i, row.rest)) / row.weight;
    return smaller(larger(share, all_lanes<N>(-1.0f)), all_lanes<N>(2.0f));
}

// value(Lanes, i) to the voxels of a class.
template <class Value>
inline void fill(const UnmixRow& row, int64_t count, const Value& value) {
    const auto nothing = [](int64_t) {};
    for_vectors(row.unmixed, count, nothing,
                [&](auto n, int64_t i) { store(row.unmixed + i, value(n, i), row.stream); });
}

void unmix(const UnmixRow& given, const uint8_t* answer, uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    fill(row, count, [=](auto n, int64_t i) {
        const auto more = __builtin_convertvector(load<n.count>(answer + i), Vector<uint16_t, n.count>);
        store(sum + i, load<n.count>(sum + i) + more);
        return unmixed<n.count>(row, i, load_bytes<n.count>(answer + i));
    });
}

void unmix_background(const UnmixRow& given, const uint16_t* sum, int64_t count) {
    const UnmixRow row = given;
    fill(row, count, [=](auto n, int64_t i) {
        const auto bytes = 255 - __builtin_convertvector(load<n.count>(sum + i), Vector<int32_t, n.count>);
        return unmixed<n.count>(row, i, bytes > 0 ? bytes : 0);
    });
}

void one_hot(const UnmixRow& given, int64_t count) {
    const UnmixRow row = given;
    fill(row, count, [=](auto n, int64_t i) { return where_label<n.count>(row, i, 1.0f); });
}

void fill_weight(const UnmixRow& given, int64_t count) {
    const UnmixRow row = given;
    fill(row, count, [=](auto n, int64_t) { return all_lanes<n.count>(row.weight); });
}

void accumulate(float* total, const float* more, int64_t count) {
    for (int64_t i = 0; i < count; ++i) total[i] += more[i];
}

void pick(const float* value, float* best, uint8_t* label, uint8_t candidate, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        label[i] = value[i] > best[i] ? candidate : label[i];
        best[i] = value[i] > best[i] ? value[i] : best[i];
    }
}

// The voxels from `i` on, `many` vectors together, because they are independent of each other. Returns the first voxel
// that is left.
template <int64_t N, int64_t many>
inline int64_t argmax_from(const ArgmaxRow& given, int64_t i, int64_t count) {
    const ArgmaxRow row = given;
    for (; i + many * N <= count; i += many * N) {
        Vector<float, N> best[many];
        Vector<int32_t, N> label[many] = {};
        const float* p = row.probabilities + i;
        for (int64_t n = 0; n < many * N; n += line) fetch_ahead(p + n);
        for (int64_t n = 0; n < many; ++n) best[n] = load<N>(p + n * N);
        for (int32_t c = 1; c < row.classes; ++c) {
            p += row.channel;
            for (int64_t n = 0; n < many * N; n += line) fetch_ahead(p + n);
            for (int64_t n = 0; n < many; ++n) {
                const auto value = load<N>(p + n * N);
                label[n] = value > best[n] ? c : label[n];
                best[n] = larger(value, best[n]);
            }
        }
        int32_t found[many * N];
        std::memcpy(found, label, sizeof found);
        for (int64_t k = 0; k < many * N; ++k) row.labels[i + k] = static_cast<uint8_t>(found[k]);
    }
    return i;
}

void argmax(const ArgmaxRow& row, int64_t count) {
    argmax_from<1, 1>(row, argmax_from<at_most_8, 4>(row, 0, count), count);
}

// e^x for x <= 0: 2^n e^r with |r| <= ln 2 / 2, the polynomial is Cephes' expf.
inline float exp_of(float x) {
    const float above = x > -87.0f ? x : -87.0f;
    constexpr float to_whole = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction
    const float n = (above * 1.44269504f + to_whole) - to_whole;
    const float r = (above - n * 0.693359375f) - n * -2.12194440e-4f;
    float y = 1.9875691500e-4f * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power = 0.0f;
    std::memcpy(&power, &bits, sizeof power);
    return y * power;
}

bool softmax(const SoftmaxRow& given, int64_t count) {
    const SoftmaxRow row = given;
    float top[cell_block], sum[cell_block];
    int32_t infinite[cell_block];
    for (int64_t i = 0; i < count; ++i) sum[i] = 0.0f;
    for (int64_t i = 0; i < count; ++i) infinite[i] = 0;
    for (int64_t c = 0; c < row.classes; ++c) {
        const float *const even = row.correction + 8 * c * row.blocks, *const odd = even + row.blocks;
        float* const logit = row.logits + c * count;
        for (int64_t k = 0; k < count / 2; ++k) {
            logit[2 * k] = even[k];
            logit[2 * k + 1] = odd[k];
        }
        if (row.linear != nullptr) {
            const float* const linear = row.linear + c * row.channel;
            for (int64_t i = 0; i < count; ++i) logit[i] += row.trust * linear[i];
        }
        for (int64_t i = 0; i < count; ++i) infinite[i] |= logit[i] - logit[i] == 0.0f ? 0 : 1;
        if (c == 0)
            for (int64_t i = 0; i < count; ++i) top[i] = logit[i];
        else
            for (int64_t i = 0; i < count; ++i) top[i] = logit[i] > top[i] ? logit[i] : top[i];
    }
    for (int64_t c = 0; c < row.classes; ++c) {
        float* const logit = row.logits + c * count;
        for (int64_t i = 0; i < count; ++i) logit[i] = exp_of(logit[i] - top[i]);
        for (int64_t i = 0; i < count; ++i) sum[i] += logit[i];
    }
    for (int64_t i = 0; i < count; ++i) sum[i] = 1.0f / sum[i];
    for (int64_t c = 0; c < row.classes; ++c) {
        const float* const share = row.logits + c * count;
        float* const out = row.probabilities + c * row.channel;
        if (row.add)
            for (int64_t i = 0; i < count; ++i) out[i] += share[i] * sum[i];
        else
            for (int64_t i = 0; i < count; ++i) out[i] = share[i] * sum[i];
    }
    int32_t any = 0;
    for (int64_t i = 0; i < count; ++i) any |= infinite[i];
    return any == 0;
}

}  // namespace
}  // namespace mixpriv
