// Before the server: normalise, clip, mask, mix and round to binary16 in one pass, as the CPU's rows do bit by bit.
// With a warp the mixture is taken at x + u(x) before it is rounded, the displacement evaluated on the way.

#include <cstring>

#include "cuda/bspline.h"
#include "cuda/launch.h"
#include "cuda/sampling.h"
#include "mixpriv/error.h"

namespace mixpriv::cuda {
namespace {

// One image on its way into the mixture; null data: nothing, the weight of the other is 1.
struct Part {
    const float* image;
    const uint8_t* mask;
    Normal normal;
    float share;
};

__device__ float normalised(const Part& part, float x, uint8_t mask) {
    return mask != 0 ? part.normal(x) : 0.0f;
}

__device__ float mixed_at(const Part& target, const Part& reference, int64_t at) {
    const float t = target.share * normalised(target, target.image[at], target.mask[at]);
    if (reference.image == nullptr) return t;
    return t + reference.share * normalised(reference, reference.image[at], reference.mask[at]);
}

// binary32 in 0..1 to binary16, round to nearest even.
__device__ uint16_t to_half(float x) {
    const float shifted = x + 0.5f;  // below 2^-14 the sum's last bit is binary16's subnormal step: the adder rounds
    uint32_t bits, subnormal;
    std::memcpy(&bits, &x, sizeof bits);
    std::memcpy(&subnormal, &shifted, sizeof subnormal);
    const uint32_t rebias = 0u - (112u << 23);
    const uint32_t normal = (bits + rebias + 0xFFFu + ((bits >> 13) & 1u)) >> 13;
    return static_cast<uint16_t>(x < 6.103515625e-05f ? subnormal - 0x3F000000u : normal);
}

template <int width>
__device__ Vector<float, width> weighted(const Part& part, int64_t index) {
    const auto x = load<width>(part.image, index);
    const auto mask = load<width>(part.mask, index);
    Vector<float, width> result;
    for (int n = 0; n < width; ++n) result.at[n] = part.share * normalised(part, x.at[n], mask.at[n]);
    return result;
}

template <int width>
__global__ void mix_kernel(Part target, Part reference, uint16_t* mixture, int64_t count) {
    for_each(count / width, [&](int64_t index) {
        auto sum = weighted<width>(target, index);
        if (reference.image != nullptr) {
            const auto r = weighted<width>(reference, index);
            for (int n = 0; n < width; ++n) sum.at[n] += r.at[n];
        }
        Vector<uint16_t, width> halves;
        for (int n = 0; n < width; ++n) halves.at[n] = to_half(sum.at[n]);
        store(mixture, index, halves);
    });
}

Part from(const Part& part, int64_t offset) {
    Part rest = part;
    if (part.image != nullptr) {
        rest.image += offset;
        rest.mask += offset;
    }
    return rest;
}

void mix_rows(const Part& target, const Part& reference, uint16_t* mixture, int64_t count, cudaStream_t stream) {
    const bool vectors = aligned(target.image) && aligned(target.mask) && aligned(reference.image) &&
                         aligned(reference.mask) && aligned(mixture);
    const int64_t head = vectors ? count / wide * wide : 0;
    if (head > 0)
        launch(mix_kernel<wide>, grid_for(head / wide), dim3(block_size), stream, target, reference, mixture, head);
    if (count > head)
        launch(mix_kernel<1>, grid_for(count - head), dim3(block_size), stream, from(target, head),
               from(reference, head), mixture + head, count - head);
}

__global__ void mix_warped_kernel(Part target, Part reference, Spline warp, Lattice lattice, uint16_t* mixture) {
    __shared__ SplineRow row;
    for_row_tiles(lattice, tile_length(warp), [&](const Tile& tile) {
        each_thread_then_wait([&] { warp.contract(tile, &row); });
        each_thread_then_wait([&] {
            for_tile(tile, [&](const Voxel& x) {
                const Cell cell = lattice.cell_within(warp.position(row, x));
                const float mixed =
                    cell.inside ? lattice.blend(cell, [&](int64_t at) { return mixed_at(target, reference, at); })
                                : 0.0f;
                mixture[lattice.offset(x)] = to_half(mixed);
            });
        });
    });
}

}  // namespace

void mix(const MixInput& input, uint16_t* mixture, Shape3 shape, cudaStream_t stream) {
    if (!(input.weight >= 0.0 && input.weight <= 1.0)) throw InputError("weight: expected a number from 0 to 1");
    const Normal normal = normal_of("target_range", input.target_range);
    if (input.reference == nullptr && input.weight != 1.0)
        throw InputError("reference: expected an array unless the weight is 1, got None");
    const auto weight = static_cast<float>(input.weight);
    const Part target{input.target, input.target_mask, normal, weight};
    const Part reference{input.reference, input.reference_mask, {0.0f, 1.0f}, 1.0f - weight};
    if (input.warp == nullptr) {
        mix_rows(target, reference, mixture, shape.count(), stream);
        return;
    }
    const Spline warp("warp", *input.warp, shape);
    const Lattice lattice(shape);
    launch(mix_warped_kernel, tile_grid(lattice, tile_length(warp)), dim3(tile_threads), stream, target, reference,
           warp, lattice, mixture);
}

}  // namespace mixpriv::cuda
