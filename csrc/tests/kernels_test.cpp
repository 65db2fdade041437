// The kernels under the sanitizers: odd shapes, edges, every instruction set and several threads; each result is
// compared with a few lines of plain arithmetic. What the numbers must be in full is tested from Python.

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

std::vector<float> numbers(int64_t count, float low, float high) {
    std::uniform_real_distribution<float> draw(low, high);
    std::vector<float> x(static_cast<size_t>(count));
    for (float& value : x) value = draw(generator);
    return x;
}

std::vector<uint8_t> bytes(int64_t count, int below) {
    std::uniform_int_distribution<int> draw(0, below - 1);
    std::vector<uint8_t> x(static_cast<size_t>(count));
    for (uint8_t& value : x) value = static_cast<uint8_t>(draw(generator));
    return x;
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
constexpr int64_t classes = 5;

// Every array has exactly its own size on the heap, so that a step beyond it is seen.
struct Case {
    Isa isa;
    Shape3 shape;
    int threads;
    int64_t count = shape.count();

    void run() const {
        mixing();
        unpacking();
        unmixing();
        sums_and_classes();
        ranges();
        resampling();
        restoring();
        warping();
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
        std::vector<uint16_t> mixture(static_cast<size_t>(count)), warped(mixture), again(mixture);
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
        mix(input, again.data(), shape, Isa::baseline, 1);
        expect(warped == again, "mix warped is the baseline's");
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
    }

    void unmixing() const {
        const Shape3 twice{{2 * shape.size[0], 2 * shape.size[1], 2 * shape.size[2]}};
        const auto correction = numbers(8 * classes * count, -3, 3), linear = numbers(8 * classes * count, -1, 2);
        std::vector<float> shares(linear.size()), again(linear.size());
        unmix(correction.data(), linear.data(), 2.5, classes, twice, false, shares.data(), isa, threads);
        unmix(correction.data(), linear.data(), 2.5, classes, twice, false, again.data(), Isa::baseline, 1);
        expect(shares == again, "unmix is the baseline's");
        std::vector<float> sums(static_cast<size_t>(8 * count));
        for (size_t i = 0; i < shares.size(); ++i) sums[i % sums.size()] += shares[i];
        expect(all(sums, [&](size_t i) { return near(sums[i], 1.0f, 1e-5f); }), "unmix gives probabilities");
        unmix(correction.data(), nullptr, 0.0, classes, twice, true, shares.data(), isa, threads);
        expect(all(shares, [&](size_t i) { return shares[i] >= again[i]; }), "unmix adds");
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
    }

    void ranges() const {
        const auto image = numbers(count, -5, 5);
        const Range range = robust_range(image.data(), nullptr, count, 0, 100, isa, threads);
        expect(all(image, [&](size_t i) { return image[i] >= range.lo && image[i] <= range.hi; }), "range holds all");
    }

    void resampling() const {
        const auto image = numbers(count, 0, 1);
        const auto labels = bytes(count, 9);
        std::vector<float> result(static_cast<size_t>(count));
        std::vector<uint8_t> nearest(static_cast<size_t>(count));
        resample(image.data(), {shape, {}}, identity, shape, nullptr, result.data(), isa, threads);
        expect(all(image, [&](size_t i) { return near(image[i], result[i], 1e-6f); }), "resample by the identity");
        resample_labels(labels.data(), {shape, {}}, identity, shape, nearest.data(), threads);
        expect(nearest == labels, "resample labels by the identity");
        const float* const end = image.data() + count - 1;
        resample(end, {shape, {true, true, true}}, identity, shape, nullptr, result.data(), isa, threads);
        expect(all(image, [&](size_t i) { return near(image[image.size() - 1 - i], result[i], 1e-6f); }),
               "resample a flipped image");
        const Matrix oblique{{{0.9, 0.2, -0.3, 0.4}, {-0.1, 1.2, 0.2, -1}, {0.3, -0.1, 0.8, 2}}};
        const Shape3 other{{5, 7, 131}};
        const Range range{0.25, 0.75};
        std::vector<float> turned(static_cast<size_t>(other.count()));
        resample(image.data(), {shape, {}}, oblique, other, &range, turned.data(), isa, threads);
        expect(all(turned, [&](size_t i) { return turned[i] >= 0 && turned[i] <= 1; }), "resample normalises");
        const int64_t factor[3] = {1, std::min<int64_t>(2, shape.size[1]), std::min<int64_t>(3, shape.size[2])};
        std::vector<float> means(
            static_cast<size_t>(shape.size[0] * (shape.size[1] / factor[1]) * (shape.size[2] / factor[2])));
        block_mean(image.data(), {shape, {}}, factor, means.data(), threads);
        expect(all(means, [&](size_t i) { return means[i] >= 0 && means[i] <= 1; }), "block means stay in between");
    }

    void restoring() const {
        const auto shares = numbers(classes * count, 0, 1), more = numbers(classes * count, 0, 1);
        const auto mask = bytes(count, 2);
        std::vector<uint8_t> labels(static_cast<size_t>(count)), expected(labels);
        std::vector<float> total(shares);
        accumulate(total.data(), more.data(), classes * count, isa, threads);
        argmax(total.data(), classes, count, expected.data(), isa, threads);
        restore_labels({shares.data(), more.data(), mask.data(), classes, shape}, identity, shape, labels.data(), isa,
                       threads);
        expect(all(labels, [&](size_t i) { return labels[i] == (mask[i] != 0 ? expected[i] : 0); }),
               "restore by the identity");
    }

    void warping() const {
        Warp warp_by{};
        const auto displacements = control(9.0f, &warp_by);
        warp_by.control = displacements.data();
        const auto shares = numbers(2 * count, 0, 1);
        const auto labels = bytes(count, 9);
        std::vector<float> result(shares.size()), again(shares.size());
        std::vector<uint8_t> nearest(labels.size()), nearest_again(labels.size());
        warp(shares.data(), 2, shape, warp_by, true, result.data(), isa, threads);
        warp(shares.data(), 2, shape, warp_by, true, again.data(), Isa::baseline, 1);
        expect(result == again, "warp is the baseline's");
        warp_labels(labels.data(), shape, warp_by, nearest.data(), isa, threads);
        warp_labels(labels.data(), shape, warp_by, nearest_again.data(), Isa::baseline, 1);
        expect(nearest == nearest_again, "warped labels are the baseline's");
        constexpr int64_t channels = 9;  // more than lie side by side; three quarters of them nothing, as in an answer
        auto answer = bytes(channels * count, 256);
        for (int64_t n = 0; n < channels * count; ++n)
            if (n % count >= count / 4) answer[static_cast<size_t>(n)] = 0;
        std::vector<uint8_t> bent(answer.size()), bent_again(answer.size());
        warp_answer(answer.data(), channels, shape, warp_by, bent.data(), isa, threads);
        warp_answer(answer.data(), channels, shape, warp_by, bent_again.data(), Isa::baseline, 1);
        expect(bent == bent_again, "a warped answer is the baseline's");
        const InverseWarp back = invert(warp_by, shape, threads), again_back = invert(warp_by, shape, 1);
        expect(back.control == again_back.control, "an inverse is that of one thread");
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
    for (const Isa isa : available_isas())
        for (const Shape3 shape : shapes)
            for (const int threads : {1, 3}) Case{isa, shape, threads}.run();
    refusals();
    std::printf("%s\n", failures == 0 ? "all kernels as expected" : "failures, see above");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
