// Resampling through an affine: an image, or class probabilities straight to labels; and means of blocks before it.

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

// Sum of value(0) to value(count - 1), times 1 / count.
template <class Value>
__device__ float mean(int64_t count, const Value& value) {
    float sum = value(0);
    for (int64_t n = 1; n < count; ++n) sum += value(n);
    return count == 1 ? sum : sum * static_cast<float>(1.0 / static_cast<double>(count));
}

__global__ void resample_kernel(const float* image, Lattice lattice, Affine affine, Shape3 shape, float* result) {
    for_voxels(shape, [&](const Voxel& x, int64_t here) {
        const Cell cell = lattice.cell_around(affine(x));
        result[here] = cell.inside ? lattice.blend(cell, [&](int64_t at) { return image[at]; }) : 0.0f;
    });
}

// Class probabilities on the grid as they count: pure background outside the mask.
struct Shares {
    const float* probabilities;
    const uint8_t* mask;
    int64_t classes, volume;

    __device__ float own(int64_t c, int64_t at) const { return probabilities[c * volume + at]; }
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

// Along the last axis first, then the middle one, then the first, each sum in order.
__global__ void block_mean_kernel(const float* image, Lattice lattice, Shape3 factor, Shape3 shape, float* result) {
    for_voxels(shape, [&](const Voxel& x, int64_t here) {
        const Voxel first{{x.at[0] * factor.size[0], x.at[1] * factor.size[1], x.at[2] * factor.size[2]}};
        const float* const corner = image + lattice.offset(first);
        result[here] = mean(factor.size[0], [&](int64_t a) {
            return mean(factor.size[1], [&](int64_t b) {
                return mean(factor.size[2], [&](int64_t c) { return corner[lattice.offset(Voxel{{a, b, c}})]; });
            });
        });
    });
}

}  // namespace

void resample(const float* image, const View3& view, const Matrix& matrix, Shape3 shape, float* result,
              cudaStream_t stream) {
    launch(resample_kernel, voxel_grid(shape), dim3(row_threads, rows), stream, image, Lattice(view), checked(matrix),
           shape, result);
}

void block_mean(const float* image, const View3& view, Shape3 factor, float* result, cudaStream_t stream) {
    Shape3 shape{};
    for (int a = 0; a < 3; ++a) shape.size[a] = view.shape.size[a] / factor.size[a];
    launch(block_mean_kernel, voxel_grid(shape), dim3(row_threads, rows), stream, image, Lattice(view), factor, shape,
           result);
}

void restore_labels(const ClassMaps& maps, const Matrix& matrix, Shape3 shape, uint8_t* labels, cudaStream_t stream) {
    const Lattice lattice(maps.shape);
    const Shares shares{maps.probabilities, maps.mask, maps.classes, lattice.count()};
    launch(restore_kernel, voxel_grid(shape), dim3(row_threads, rows), stream, shares, lattice, checked(matrix), shape,
           labels);
}

}  // namespace mixpriv::cuda
