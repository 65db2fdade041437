// The kernels under the sanitizers: odd shapes, edges, every instruction set and several threads; each result is
// compared with a few lines of plain arithmetic. A digest of all results must be the same on every instruction set and
// number of threads, and on every machine. What the numbers must be in full is tested from Python.

#include "mixpriv/kernels.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "mixpriv/error.h"

using namespace mixpriv;

namespace {

int failures = 0;

void check(bool good, const char* what, Isa isa, Shape3 shape, int threads) {
    if (good) return;
    ++failures;
    std::fprintf(stderr, "FAILED: %s (%s, %lld x %lld x %lld, %d threads)\n", what, name_of(isa),
                 static_cast<long long>(shape.size[0]), static_cast<long long>(shape.size[1]),
                 static_cast<long long>(shape.size[2]), threads);
}

template <class Call>
void expect_refused(const char* what, const Call& call) {
    try {
        call();
    } catch (const InputError&) {
        return;
    }
    ++failures;
    std::fprintf(stderr, "FAILED: %s was not refused\n", what);
}

std::mt19937 generator(1);

// Without the standard's distributions: they draw what they like.
std::vector<float> numbers(int64_t count, float low, float high) {
    std::vector<float> x(static_cast<size_t>(count));
    for (float& value : x) value = low + (high - low) * (static_cast<float>(generator() >> 8) * 0x1p-24f);
    return x;
}

std::vector<uint8_t> bytes(int64_t count, uint32_t below) {
    std::vector<uint8_t> x(static_cast<size_t>(count));
    for (uint8_t& value : x) value = static_cast<uint8_t>((generator() >> 8) % below);
    return x;
}

uint64_t digest = 0;

// FNV-1a.
template <class T>
void digest_more(const T* values, size_t count) {
    const auto* const bytes = reinterpret_cast<const unsigned char*>(values);
    for (size_t i = 0; i < count * sizeof(T); ++i) digest = (digest ^ bytes[i]) * 0x100000001B3u;
}

template <class T>
void digest_more(const std::vector<T>& values) {
    digest_more(values.data(), values.size());
}

bool near(float a, float b, float tolerance) {
    return std::abs(a - b) <= tolerance;
}

template <class T, class Good>
bool all(const std::vector<T>& x, const Good& good) {
    for (size_t i = 0; i < x.size(); ++i)
        if (!good(i)) return false;
    return true;
}

constexpr Matrix identity{{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}};
constexpr Matrix oblique{{{0.9, 0.2, -0.3, 0.4}, {-0.1, 1.2, 0.2, -1}, {0.3, -0.1, 0.8, 2}}};
constexpr int64_t classes = 5;

// Every array has exactly its own size on the heap, so that a step beyond it is seen.
struct Case {
    Isa isa;
    Shape3 shape;
    int threads;
    int64_t count = shape.count();

    // The digest of all results.
    uint64_t run() const {
        generator.seed(1);
        digest = 0xCBF29CE484222325u;
        mixing();
        unpacking();
        unmixing();
        sums_and_classes();
        ranges();
        resampling();
        restoring();
        warping();
        return digest;
    }

    void expect(bool good, const char* what) const { check(good, what, isa, shape, threads); }

    std::vector<float> control(float size, Warp* warp) const {
        warp->knots = 3.7;
        for (int a = 0; a < 3; ++a)
            warp->points.size[a] = static_cast<int64_t>(std::floor(static_cast<double>(shape.size[a] - 1) / 3.7)) + 4;
        return numbers(3 * warp->points.count(), -size, size);
    }

    void mixing() const {
        const auto target = numbers(count, -1, 2), reference = numbers(count, -1, 2);
        const auto masks = bytes(2 * count, 2);
        std::vector<uint16_t> mixture(static_cast<size_t>(count)), warped(mixture);
        MixInput input{target.data(), masks.data(), {0.0, 1.0}, reference.data(), masks.data() + count, 0.4, nullptr};
        mix(input, mixture.data(), shape, isa, threads);
        expect(all(mixture, [&](size_t i) { return (masks[i] | masks[i + target.size()]) != 0 || mixture[i] == 0; }),
               "mix is 0 outside both masks");
        Warp still{};
        const auto zeros = control(0.0f, &still);
        still.control = zeros.data();
        input.warp = &still;
        mix(input, warped.data(), shape, isa, threads);
        expect(all(mixture, [&](size_t i) { return std::abs(mixture[i] - warped[i]) <= 1; }),
               "mix without displacement is mix");
        Warp moving{};
        const auto displacements = control(9.0f, &moving);
        moving.control = displacements.data();
        input.warp = &moving;
        mix(input, warped.data(), shape, isa, threads);
        digest_more(mixture);
        digest_more(warped);
    }

    void unpacking() const {
        const auto answer = bytes((classes - 1) * count, 256), labels = bytes(count, classes);
        std::vector<float> result(static_cast<size_t>((2 * classes + 1) * count));
        unpack(answer.data(), labels.data(), 1.0, classes, count, result.data(), isa, threads);
        expect(
            all(answer, [&](size_t i) { return result[i + labels.size()] == static_cast<float>(answer[i]) / 255.0f; }),
            "unpack at weight 1 is the answer");
        expect(all(labels, [&](size_t i) { return result[(classes + labels[i]) * labels.size() + i] == 1.0f; }),
               "unpack tells the labels");
        digest_more(result);
        unpack(answer.data(), labels.data(), 0.3, classes, count, result.data(), isa, threads);
        digest_more(result);
    }

    void unmixing() const {
        const Shape3 twice{{2 * shape.size[0], 2 * shape.size[1], 2 * shape.size[2]}};
        const auto correction = numbers(8 * classes * count, -3, 3), linear = numbers(8 * classes * count, -1, 2);
        std::vector<float> shares(linear.size());
        unmix(correction.data(), linear.data(), 2.5, classes, twice, false, shares.data(), isa, threads);
        const std::vector<float> before(shares);
        std::vector<float> sums(static_cast<size_t>(8 * count));
        for (size_t i = 0; i < shares.size(); ++i) sums[i % sums.size()] += shares[i];
        expect(all(sums, [&](size_t i) { return near(sums[i], 1.0f, 1e-5f); }), "unmix gives probabilities");
        unmix(correction.data(), nullptr, 0.0, classes, twice, true, shares.data(), isa, threads);
        expect(all(shares, [&](size_t i) { return shares[i] >= before[i]; }), "unmix adds");
        digest_more(shares);
    }

    void sums_and_classes() const {
        const auto shares = numbers(classes * count, 0, 1);
        std::vector<float> total(shares);
        accumulate(total.data(), shares.data(), classes * count, isa, threads);
        expect(all(total, [&](size_t i) { return total[i] == 2 * shares[i]; }), "accumulate adds");
        std::vector<uint8_t> labels(static_cast<size_t>(count));
        argmax(shares.data(), classes, count, labels.data(), isa, threads);
        expect(all(labels,
                   [&](size_t i) {
                       for (size_t c = 0; c < classes; ++c)
                           if (shares[c * labels.size() + i] > shares[labels[i] * labels.size() + i]) return false;
                       return true;
                   }),
               "argmax finds the largest");
        digest_more(total);
        digest_more(labels);
    }

    void ranges() const {
        const auto image = numbers(count, -5, 5);
        const Range range = robust_range(image.data(), nullptr, count, 0, 100, isa, threads);
        expect(all(image, [&](size_t i) { return image[i] >= range.lo && image[i] <= range.hi; }), "range holds all");
        digest_more(&range.lo, 2);
    }

    void resampling() const {
        const auto image = numbers(count, 0, 1);
        std::vector<float> result(static_cast<size_t>(count));
        resample(image.data(), {shape, {}}, identity, shape, result.data(), isa, threads);
        expect(all(image, [&](size_t i) { return near(image[i], result[i], 1e-6f); }), "resample by the identity");
        const float* const end = image.data() + count - 1;
        resample(end, {shape, {true, true, true}}, identity, shape, result.data(), isa, threads);
        expect(all(image, [&](size_t i) { return near(image[image.size() - 1 - i], result[i], 1e-6f); }),
               "resample a flipped image");
        const Shape3 other{{5, 7, 131}};
        std::vector<float> turned(static_cast<size_t>(other.count()));
        resample(image.data(), {shape, {}}, oblique, other, turned.data(), isa, threads);
        expect(all(turned, [&](size_t i) { return turned[i] >= 0 && turned[i] <= 1; }), "resample stays in between");
        digest_more(turned);
        const int64_t factor[3] = {1, std::min<int64_t>(2, shape.size[1]), std::min<int64_t>(3, shape.size[2])};
        std::vector<float> means(
            static_cast<size_t>(shape.size[0] * (shape.size[1] / factor[1]) * (shape.size[2] / factor[2])));
        block_mean(image.data(), {shape, {}}, factor, means.data(), threads);
        expect(all(means, [&](size_t i) { return means[i] >= 0 && means[i] <= 1; }), "block means stay in between");
        digest_more(means);
    }

    void restoring() const {
        const auto shares = numbers(classes * count, 0, 1);
        const auto mask = bytes(count, 2);
        std::vector<uint8_t> labels(static_cast<size_t>(count)), expected(labels);
        argmax(shares.data(), classes, count, expected.data(), isa, threads);
        const ClassMaps maps{shares.data(), mask.data(), classes, shape};
        restore_labels(maps, identity, shape, labels.data(), isa, threads);
        expect(all(labels, [&](size_t i) { return labels[i] == (mask[i] != 0 ? expected[i] : 0); }),
               "restore by the identity");
        restore_labels(maps, oblique, shape, labels.data(), isa, threads);
        digest_more(labels);
    }

    void warping() const {
        Warp warp_by{};
        const auto displacements = control(9.0f, &warp_by);
        warp_by.control = displacements.data();
        const auto shares = numbers(2 * count, 0, 1);
        const auto labels = bytes(count, 9);
        std::vector<float> result(shares.size());
        std::vector<uint8_t> nearest(labels.size());
        warp(shares.data(), 2, shape, warp_by, true, result.data(), isa, threads);
        digest_more(result);
        warp_labels(labels.data(), shape, warp_by, nearest.data(), isa, threads);
        digest_more(nearest);
        constexpr int64_t channels = 9;  // more than lie side by side; three quarters of them nothing, as in an answer
        auto answer = bytes(channels * count, 256);
        for (int64_t n = 0; n < channels * count; ++n)
            if (n % count >= count / 4) answer[static_cast<size_t>(n)] = 0;
        std::vector<uint8_t> bent(answer.size());
        warp_answer(answer.data(), channels, shape, warp_by, bent.data(), isa, threads);
        digest_more(bent);
        digest_more(invert(warp_by, shape, threads).control);
    }
};

void refusals() {
    const float one = 1.0f;
    const uint8_t inside = 1;
    uint16_t half = 0;
    const Shape3 voxel{{1, 1, 1}};
    const float control[3 * 64] = {};
    const MixInput input{&one, &inside, {0, 1}, nullptr, nullptr, 1.0, nullptr};
    const auto mixed_with = [&](const auto& change) {
        return [=, &half] {
            MixInput changed = input;
            change(&changed);
            mix(changed, &half, voxel, Isa::baseline, 1);
        };
    };
    expect_refused("weight", mixed_with([](MixInput* in) { in->weight = 2; }));
    expect_refused("range", mixed_with([](MixInput* in) { in->target_range = {1, 1}; }));
    const Warp few{control, {{4, 4, 3}}, 2.0}, none{control, {{4, 4, 4}}, 0.0};
    expect_refused("too few control points", mixed_with([&](MixInput* in) { in->warp = &few; }));
    expect_refused("knots", mixed_with([&](MixInput* in) { in->warp = &none; }));
    expect_refused("an empty mask", [&] {
        const uint8_t outside = 0;
        robust_range(&one, &outside, 1, 0, 100, Isa::baseline, 1);
    });
}

}  // namespace

int main() {
    const Shape3 shapes[] = {{{1, 1, 1}}, {{1, 3, 1}}, {{2, 1, 33}}, {{5, 7, 9}}, {{17, 33, 65}}, {{41, 43, 140}}};
    uint64_t all = 0;
    for (const Shape3 shape : shapes) {
        const uint64_t expected = Case{Isa::baseline, shape, 1}.run();
        for (const Isa isa : available_isas())
            for (const int threads : {1, 3})
                check(Case{isa, shape, threads}.run() == expected, "the same bits", isa, shape, threads);
        all = all * 31 + expected;
    }
    refusals();
    std::printf("%s; digest of the results: %016llx\n",
                failures == 0 ? "all kernels as expected" : "failures, see above",
                static_cast<unsigned long long>(all));
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
