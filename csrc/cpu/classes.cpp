// Sums and arg-max over class probabilities.

#include "mixpriv/kernels.h"
#include "spread.h"

namespace mixpriv {

void accumulate(float* total, const float* probabilities, int64_t count, Isa isa, int threads) {
    const RowKernels& rows = rows_for(isa);
    parallel_for(count, voxel_grain, threads, [&](int64_t begin, int64_t end, int) {
        rows.accumulate(total + begin, probabilities + begin, end - begin);
    });
}

void argmax(const float* probabilities, int64_t classes, int64_t count, uint8_t* labels, Isa isa, int threads) {
    const RowKernels& rows = rows_for(isa);
    parallel_for(count, voxel_grain, threads, [&](int64_t begin, int64_t end, int) {
        rows.argmax({probabilities + begin, count, classes, labels + begin}, end - begin);
    });
}

}  // namespace mixpriv
