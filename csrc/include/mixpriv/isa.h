#pragma once

#include <string>
#include <vector>

namespace mixpriv {

enum class Isa { baseline, avx2, avx512 };

const char* name_of(Isa isa);

// What this build and this processor can run, slowest first.
std::vector<Isa> available_isas();

// The fastest available one, or the one that the environment variable MIXPRIV_ISA names. Read at every call, so that
// tests can force each in turn; call it while holding the GIL, because getenv must not run beside a setenv.
Isa current_isa();

}  // namespace mixpriv
