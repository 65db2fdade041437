#pragma once

// Row kernels over long arrays.

#include <cstdint>

#include "mixpriv/isa.h"
#include "mixpriv/parallel.h"
#include "mixpriv/rows.h"

namespace mixpriv {

constexpr int64_t voxel_grain = 1 << 15;

// Results larger than this are written past the caches, which they would only empty.
constexpr int64_t stream_bytes = 1 << 24;

inline const RowKernels& rows_for(Isa isa) {
#ifdef MIXPRIV_X86_64
    if (isa == Isa::avx512) return avx512_rows;
    if (isa == Isa::avx2) return avx2_rows;
#endif
    static_cast<void>(isa);
    return baseline_rows;
}

}  // namespace mixpriv
