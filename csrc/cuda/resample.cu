// Resampling through an affine: an image, labels, or class probabilities straight to labels.

#include <cmath>

#include "cuda/launch.h"
#include "cuda/sampling.h"
#include "mixpriv/error.h"

namespace mixpriv::cuda {
namespace {

constexpr double largest_entry = 1e30;  // no sum or product of it with an index overflows
constexpr int row_threads = 32, rows = 8;

struct Affine {
    double at[3][4];

    __device__ Position operator()(const Voxel& x) const {
        const auto i = static_cast<double>(x.at[0]), j = static_cast<double>(x.at[1]), k = static_cast<double>(x.at[2]);
        Position p;
        for (int a = 0; a < 3; ++a) p.at[a] = (at[a][0] * i + at[a][1] * j + at[a][3]) + k * at[a][2];
        return p;
    }
};

Affine checked(const Matrix& matrix) {
    Affine affine;
    for (size_t a = 0; a < 3; ++a)
        for (size_t b = 0; b < 4; ++b) {
            affine.at[a][b] = matrix[a][b];
            if (!(std::abs(matrix[a][b]) < largest_entry))
                throw InputError("matrix: expected finite entries, below 1e30 in size");
        }
    return affine;
}

// Blocks of `rows` times `row_threads` voxels; loops where a grid cannot be that large.
dim3 voxel_grid(Shape3 shape) {
    return dim3(static_cast<unsigned>(std::min(blocks_for(shape.size[2], row_threads), most_blocks)),
                static_cast<unsigned>(std::min(blocks_for(shape.size[1], rows), most_rows)),
                static_cast<unsigned>(std::min(shape.size[0], most_rows)));
}

// Calls body(voxel) once for every voxel of a volume.
template <class Body>
__device__ void for_voxels(Shape3 shape, const Body& body) {
    each_thread([&] {
        const int64_t first_k = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
        const int64_t first_j = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
        for (int64_t i = blockIdx.z; i < shape.size[0]; i += gridDim.z)
            for (int64_t j = first_j; j < shape.size[1]; j += static_cast<int64_t>(gridDim.y) * blockDim.y)
                for (int64_t k = first_k; k < shape.size[2]; k += static_cast<int64_t>(gridDim.x) * blockDim.x)
                    body(Voxel{{i, j, k}}, (i * shape.size[1] + j) * shape.size[2] + k);
    });
}

struct Normalisation {
    float lo, scale;  // scale 0: none
};

__global__ void resample_kernel(const float* image, Lattice lattice, Affine affine, Shape3 shape, Normalisation range,
                                float* result) {
    for_voxels(shape, [&](const Voxel& x, int64_t here) {
        const Cell cell = lattice.cell_around(affine(x));
        float value = 0.0f;
        if (cell.inside) {
            value = lattice.blend(cell, [&](int64_t at) { return image[at]; });
            if (range.scale != 0.0f) {
                const float y = (value - range.lo) * range.scale;
                const float positive = y > 0.0f ? y : 0.0f;
                value = positive < 1.0f ? positive : 1.0f;
            }
        }
        result[here] = value;
    });
}

__global__ void resample_labels_kernel(const uint8_t* labels, Lattice lattice, Affine affine, Shape3 shape, uint8_t* result) {
    for_voxels(shape, [&](const Voxel& x, int64_t here) {
        Position p = affine(x);
        bool inside = true;
        for (int a = 0; a < 3; ++a) {
            const auto last = static_cast<double>(lattice.size[a] - 1);
            inside = inside && p.at[a] >= -0.5 && p.at[a] <= last + 0.5;
            p.at[a] = p.at[a] < 0.0 ? 0.0 : last < p.at[a] ? last : p.at[a];
        }
        result[here] = inside ? labels[lattice.nearest(p)] : uint8_t{0};
    });
}

// Class probabilities on the grid as they count: with the last ones added, pure background outside the mask.
struct Shares {
    const float *probabilities, *last;
    const uint8_t* mask;
    int64_t classes, volume;

    __device__ float own(int64_t c, int64_t at) const {
        const float p = probabilities[c * volume + at];
        return last == nullptr ? p : p + last[c * volume + at];
    }
    __device__ float operator()(int64_t c, int64_t at) const {
        if (mask == nullptr || mask[at] != 0) return own(c, at);
        float sum = 0.0f;
        if (c == 0)
            for (int64_t n = 0; n < classes; ++n) sum += own(n, at);
        return sum;
    }
};

__global__ void restore_kernel(Shares shares, Lattice lattice, Affine affine, Shape3 shape, uint8_t* labels) {
    for_voxels(shape, [&](const Voxel& x, int64_t here) {
        const Cell cell = lattice.cell_around(affine(x));
        int64_t label = 0;
        if (cell.inside) {
            float best = lattice.blend(cell, [&](int64_t at) { return shares(0, at); });
            for (int64_t c = 1; c < shares.classes; ++c) {
                const float value = lattice.blend(cell, [&](int64_t at) { return shares(c, at); });
                if (value > best) {
                    best = value;
                    label = c;
                }
            }
        }
        labels[here] = static_cast<uint8_t>(label);
    });
}

Normalisation checked(const Range* range) {
    if (range == nullptr) return {0.0f, 0.0f};
    const auto lo = static_cast<float>(range->lo), hi = static_cast<float>(range->hi);
    const float scale = 1.0f / (hi - lo);
    if (!(std::isfinite(lo) && std::isfinite(hi) && lo < hi && std::isfinite(scale) && scale > 0.0f))
        throw InputError("intensity_range: expected finite (lo, hi) with lo < hi");
    return {lo, scale};
}

}  // namespace

void resample(const float* image, Shape3 image_shape, const Matrix& matrix, Shape3 shape, const Range* range,
              float* result, cudaStream_t stream) {
    launch(resample_kernel, voxel_grid(shape), dim3(row_threads, rows), stream, image, Lattice(image_shape),
           checked(matrix), shape, checked(range), result);
}

void resample_labels(const uint8_t* labels, Shape3 labels_shape, const Matrix& matrix, Shape3 shape, uint8_t* result,
                     cudaStream_t stream) {
    launch(resample_labels_kernel, voxel_grid(shape), dim3(row_threads, rows), stream, labels, Lattice(labels_shape),
           checked(matrix), shape, result);
}

void restore_labels(const Restoring& input, const Matrix& matrix, Shape3 shape, uint8_t* labels, cudaStream_t stream) {
    const Lattice lattice(input.grid_shape);
    const Shares shares{input.probabilities, input.last, input.mask, input.classes, lattice.count()};
    launch(restore_kernel, voxel_grid(shape), dim3(row_threads, rows), stream, shares, lattice, checked(matrix), shape, labels);
}

}  // namespace mixpriv::cuda
