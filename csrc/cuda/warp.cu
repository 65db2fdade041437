// Images, class probabilities and labels at x + u(x).

#include "cuda/bspline.h"
#include "cuda/launch.h"
#include "cuda/sampling.h"

namespace mixpriv::cuda {
namespace {

__global__ void warp_kernel(const float* channels, int64_t count, Spline spline, Lattice lattice, bool fill_background,
                            float* result) {
    __shared__ SplineRow row;
    for_row_tiles(lattice, tile_length(spline), [&](const Tile& tile) {
        each_thread_then_wait([&] { spline.contract(tile, &row); });
        each_thread_then_wait([&] {
            for_tile(tile, [&](const Voxel& x) {
                const Cell cell = lattice.cell_within(spline.position(row, x));
                const int64_t volume = lattice.count(), here = lattice.offset(x);
                float sum = 0.0f;
                for (int64_t c = count - 1; c >= 0; --c) {
                    const float* channel = channels + c * volume;
                    float value = cell.inside ? lattice.blend(cell, [&](int64_t at) { return channel[at]; }) : 0.0f;
                    sum += value;
                    if (c == 0 && fill_background) value += 1.0f - sum;
                    result[c * volume + here] = value;
                }
            });
        });
    });
}

__global__ void warp_labels_kernel(const uint8_t* labels, Spline spline, Lattice lattice, uint8_t* result) {
    __shared__ SplineRow row;
    for_row_tiles(lattice, tile_length(spline), [&](const Tile& tile) {
        each_thread_then_wait([&] { spline.contract(tile, &row); });
        each_thread_then_wait([&] {
            for_tile(tile, [&](const Voxel& x) {
                Voxel from{};
                const bool found = lattice.nearest(spline.position(row, x), &from);
                result[lattice.offset(x)] = found ? labels[lattice.offset(from)] : uint8_t{0};
            });
        });
    });
}

}  // namespace

void warp(const float* channels, int64_t count, Shape3 shape, const Warp& by, bool fill_background, float* result,
          cudaStream_t stream) {
    const Spline spline("control", by, shape);
    const Lattice lattice(shape);
    launch(warp_kernel, tile_grid(lattice, tile_length(spline)), dim3(tile_threads), stream, channels, count, spline,
           lattice, fill_background, result);
}

void warp_labels(const uint8_t* labels, Shape3 shape, const Warp& by, uint8_t* result, cudaStream_t stream) {
    const Spline spline("control", by, shape);
    const Lattice lattice(shape);
    launch(warp_labels_kernel, tile_grid(lattice, tile_length(spline)), dim3(tile_threads), stream, labels, spline,
           lattice, result);
}

}  // namespace mixpriv::cuda
