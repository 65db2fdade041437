// The control points of the warp that undoes another.

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"
#include "mixpriv/parallel.h"
#include "scratch.h"
#include "spline.h"

namespace mixpriv {
namespace {

// Distance of the inverse's control points, of the forward distance, and steps: where a warp squeezes, its inverse
// varies faster. Most steps are done where there are few points.
constexpr struct {
    double share;
    int64_t steps;
} passes[] = {{1.0, 20}, {1.0 / 3.0, 4}};

constexpr double least_knots = 1e-6;  // no grid needs it; far below, a third of it would be nothing

// The components of a displacement side by side; the fourth fills the vector, of GCC and Clang.
struct Vector {
    float at __attribute__((vector_size(16)));
};

// Displacements, or control points, at points of a grid.
struct Field {
    Shape3 shape;
    Scratch<Vector> points;
    explicit Field(Shape3 sizes) : shape(sizes), points(scratch<Vector>(sizes.count())) {}
};

// A point between control points: the first of the four that it depends on, and their weights.
struct Taps {
    int64_t first;
    float weight[4];
};

// Those of all points of an axis, of which number i lies at (i - 1) * knots, as do the control points at theirs.
std::vector<Taps> taps_of(int64_t count, double knots, int64_t control_count, double control_knots) {
    std::vector<Taps> all(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
        Taps& taps = all[static_cast<size_t>(i)];
        // beyond them fewer than four points count: what is there goes on
        const double position =
            std::clamp(static_cast<double>(i - 1) * knots / control_knots, 0.0, static_cast<double>(control_count - 3));
        taps.first = std::min(static_cast<int64_t>(position), control_count - 4);
        double weight[4];
        cubic_weights(position - static_cast<double>(taps.first), weight);
        for (int m = 0; m < 4; ++m) taps.weight[m] = static_cast<float>(weight[m]);
    }
    return all;
}

void contract(const Taps& taps, const Vector* points, int64_t stride, int64_t count, Vector* out) {
    const Vector* const p = points + taps.first * stride;
    const float* const w = taps.weight;
    for (int64_t n = 0; n < count; ++n)
        out[n].at =
            (w[0] * p[n].at + w[1] * p[n + stride].at) + (w[2] * p[n + 2 * stride].at + w[3] * p[n + 3 * stride].at);
}

// The spline at the points of another grid, `knots` voxels apart.
Field evaluate(const Field& control, double control_knots, Shape3 shape, double knots, int threads) {
    std::vector<Taps> taps[3];
    for (int a = 0; a < 3; ++a) taps[a] = taps_of(shape.size[a], knots, control.shape.size[a], control_knots);
    const int64_t height = shape.size[1], width = shape.size[2];
    const int64_t control_width = control.shape.size[2], slab = control.shape.size[1] * control_width;
    Field field(shape);
    std::vector<std::vector<Vector>> buffers(static_cast<size_t>(worker_count(shape.size[0], 1, threads)));
    for (auto& buffer : buffers) buffer.resize(static_cast<size_t>(slab + control_width));
    parallel_for(shape.size[0], 1, threads, [&](int64_t begin, int64_t end, int worker) {
        Vector *const plane = buffers[static_cast<size_t>(worker)].data(), *const line = plane + slab;
        for (int64_t i = begin; i < end; ++i) {
            contract(taps[0][static_cast<size_t>(i)], control.points.get(), slab, slab, plane);
            for (int64_t j = 0; j < height; ++j) {
                contract(taps[1][static_cast<size_t>(j)], plane, control_width, control_width, line);
                Vector* const out = field.points.get() + (i * height + j) * width;
                for (int64_t k = 0; k < width; ++k) contract(taps[2][static_cast<size_t>(k)], line, 1, 1, out + k);
            }
        }
    });
    return field;
}

// u at a position in its grid, trilinear; beyond its points it goes on as at the edge.
Vector sample(const Field& u, const float (&position)[3]) {
    const int64_t stride[3] = {u.shape.size[1] * u.shape.size[2], u.shape.size[2], 1};
    const Vector* corner = u.points.get();
    float fraction[3];
    for (int a = 0; a < 3; ++a) {
        const auto last = static_cast<int32_t>(u.shape.size[a] - 1);  // at least 3
        const float end = static_cast<float>(last), inner = position[a] > 0.0f ? position[a] : 0.0f;
        const float p = inner < end ? inner : end;
        const int32_t whole = std::min(static_cast<int32_t>(p), last - 1);
        fraction[a] = p - static_cast<float>(whole);
        corner += whole * stride[a];
    }
    const auto along = [&](int axis, Vector a, Vector b) { return Vector{a.at + (b.at - a.at) * fraction[axis]}; };
    const auto pair = [&](const Vector* p) { return along(2, p[0], p[1]); };
    const auto face = [&](const Vector* p) { return along(1, pair(p), pair(p + stride[1])); };
    return along(0, face(corner), face(corner + stride[0]));
}

// v(x) = -u(x + v(x)), so many times; `scale` points of the grid are one voxel.
void iterate(const Field& u, double scale, int64_t steps, Field* v, int threads) {
    const int64_t height = u.shape.size[1], width = u.shape.size[2];
    const auto by = static_cast<float>(scale);
    parallel_for(u.shape.size[0] * height, 16, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            Vector* const at = v->points.get() + row * width;
            const auto i = static_cast<float>(row / height), j = static_cast<float>(row % height);
            for (int64_t done = 0; done < steps; ++done)  // over the whole row: no point waits for the one before
                for (int64_t k = 0; k < width; ++k) {
                    const float moved[3] = {i + by * at[k].at[0], j + by * at[k].at[1],
                                            static_cast<float>(k) + by * at[k].at[2]};
                    at[k].at = -sample(u, moved).at;
                }
        }
    });
}

// Values of `count` lines side by side to the coefficients of the cubic splines through them, mirrored at their ends
// (Unser, IEEE Signal Processing Magazine 1999).
void filter(Vector* line, int64_t length, int64_t stride, int64_t count) {
    constexpr float pole = -0.26794919243112270647f;  // sqrt(3) - 2
    constexpr int64_t horizon = 16;                   // its power is 1e-9
    const int64_t period = 2 * length - 2;
    for (int64_t n = 0; n < count; ++n) {
        Vector first = line[n];
        float power = pole;
        for (int64_t k = 1; k <= horizon; ++k, power *= pole) {
            const int64_t place = k % period, mirrored = place < length ? place : period - place;
            first.at += power * line[n + mirrored * stride].at;
        }
        line[n].at = 6.0f * first.at;
    }
    for (int64_t k = 1; k < length; ++k) {
        Vector* const p = line + k * stride;
        for (int64_t n = 0; n < count; ++n) p[n].at = 6.0f * p[n].at + pole * p[n - stride].at;
    }
    Vector* const last = line + (length - 1) * stride;
    for (int64_t n = 0; n < count; ++n)
        last[n].at = pole / (pole * pole - 1.0f) * (last[n].at + pole * last[n - stride].at);
    for (int64_t k = length - 2; k >= 0; --k) {
        Vector* const p = line + k * stride;
        for (int64_t n = 0; n < count; ++n) p[n].at = pole * (p[n + stride].at - p[n].at);
    }
}

void interpolate(Field* field, int threads) {
    const int64_t height = field->shape.size[1], width = field->shape.size[2], slab = height * width;
    Vector* const points = field->points.get();
    parallel_for(slab, 256, threads, [&](int64_t begin, int64_t end, int) {
        filter(points + begin, field->shape.size[0], slab, end - begin);
    });
    parallel_for(field->shape.size[0], 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            filter(points + i * slab, height, width, width);
            for (int64_t j = 0; j < height; ++j) filter(points + i * slab + j * width, width, 1, 1);
        }
    });
}

}  // namespace

InverseWarp invert(const Warp& forward, Shape3 shape, int threads) {
    check_warp("control", forward, shape);
    if (forward.knots < least_knots)
        throw InputError("control: expected control points at least 1e-6 voxels apart to find the way back");
    Field control(forward.points);
    const int64_t given = control.shape.count();
    for (int64_t n = 0; n < given; ++n) {
        control.points[n] = Vector{};  // the fourth, too: subnormal garbage would be computed with, slowly
        for (int64_t a = 0; a < 3; ++a) control.points[n].at[a] = forward.control[a * given + n];
    }
    std::optional<Field> inverse;
    double knots = 0.0;
    for (const auto& pass : passes) {
        const double own = forward.knots * pass.share;
        Shape3 points{};
        for (int a = 0; a < 3; ++a) points.size[a] = points_needed(shape.size[a], own);
        Field values = inverse ? evaluate(*inverse, knots, points, own, threads) : Field(points);
        if (!inverse) std::fill_n(values.points.get(), points.count(), Vector{});
        iterate(evaluate(control, forward.knots, points, own, threads), 1.0 / own, pass.steps, &values, threads);
        interpolate(&values, threads);
        inverse = std::move(values);
        knots = own;
    }
    const int64_t count = inverse->shape.count();
    std::vector<float> result(static_cast<size_t>(3 * count));
    for (int64_t n = 0; n < count; ++n)
        for (int64_t a = 0; a < 3; ++a) result[static_cast<size_t>(a * count + n)] = inverse->points[n].at[a];
    return {std::move(result), inverse->shape, knots};
}

}  // namespace mixpriv
