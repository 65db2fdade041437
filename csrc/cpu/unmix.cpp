// The unmixer's answer to class probabilities.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "mixpriv/error.h"
#include "mixpriv/kernels.h"
#include "spread.h"

namespace mixpriv {

void unmix(const float* correction, const float* linear, double trust, int64_t classes, Shape3 shape, bool add,
           float* probabilities, Isa isa, int threads) {
    for (const int64_t size : shape.size)
        if (size % 2 != 0) throw InputError("correction: expected blocks of 2x2x2 voxels");
    const auto share = static_cast<float>(trust);
    if (!std::isfinite(share)) throw InputError("trust: expected a finite number");
    const RowKernels& rows = rows_for(isa);
    const int64_t length = shape.size[2], width = length / 2, count = shape.count(), blocks = count / 8;
    const int64_t lines = shape.size[0] * shape.size[1], grain = std::max<int64_t>(1, voxel_grain / length);
    std::atomic<bool> finite{true};
    parallel_for(lines, grain, threads, [&](int64_t begin, int64_t end, int) {
        std::vector<float> logits(static_cast<size_t>(classes * cell_block));
        for (int64_t line = begin; line < end; ++line) {
            const int64_t x = line / shape.size[1], y = line % shape.size[1];
            const float* const from =
                correction + (4 * (x % 2) + 2 * (y % 2)) * blocks + (x / 2 * (shape.size[1] / 2) + y / 2) * width;
            for (int64_t first = 0; first < length; first += cell_block) {
                const int64_t voxel = line * length + first;
                const bool good = rows.softmax({from + first / 2, blocks, linear == nullptr ? nullptr : linear + voxel,
                                                share, count, classes, logits.data(), probabilities + voxel, add},
                                               std::min(cell_block, length - first));
                if (!good) finite = false;
            }
        }
    });
    if (!finite) throw InputError("correction, linear: expected finite logits, got NaN or Inf");
}

}  // namespace mixpriv
