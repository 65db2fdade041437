#pragma once

// What AVX-512 takes from AVX2.

#include <immintrin.h>

#include "mixpriv/rows.h"

namespace mixpriv::avx2 {

// Where several streams are read, or much work stands between two loads, processors fetch too late by themselves.
inline void fetch_ahead(const void* p) {
    constexpr int64_t ahead = 4096;
    _mm_prefetch(static_cast<const char*>(p) + ahead, _MM_HINT_T0);
}

void argmax(const ArgmaxRow& row, int64_t count);
void tally(const float* image, const uint8_t* mask, int64_t length, Tally* found);

}  // namespace mixpriv::avx2
