#pragma once

// What AVX-512 takes from AVX2: kernels that wait for memory either way.

#include "mixpriv/rows.h"

namespace mixpriv::avx2 {

void argmax(const ArgmaxRow& row, int64_t count);
void tally(const float* image, const uint8_t* mask, int64_t length, Tally* found);

}  // namespace mixpriv::avx2
