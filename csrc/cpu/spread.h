#pragma once

// Row kernels over long arrays: the chosen instruction set, and what its vectors leave over at both ends.

#include <algorithm>
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

// run(kernels, first, last) for parts of [begin, end): the baseline up to the first aligned item of what is written,
// the chosen kernels for whole multiples of their width, the baseline for the rest.
template <class T, class Run>
void head_body_tail(const RowKernels& rows, const T* written, int64_t begin, int64_t end, const Run& run) {
    constexpr int64_t item = sizeof(T);
    const auto address = reinterpret_cast<uintptr_t>(written + begin);
    const int64_t lead = static_cast<int64_t>((0 - address) % row_alignment) / item;
    const int64_t body = std::min(begin + lead, end), tail = end - (end - body) % row_multiple;
    if (begin < body) run(baseline_rows, begin, body);
    if (body < tail) run(rows, body, tail);
    if (tail < end) run(baseline_rows, tail, end);
}

}  // namespace mixpriv
