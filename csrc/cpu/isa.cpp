#include "mixpriv/isa.h"

#include <cstdlib>

#include "mixpriv/error.h"

#ifdef MIXPRIV_X86_64
#include <cpuid.h>
#endif

namespace mixpriv {
namespace {

#ifdef MIXPRIV_X86_64
// __builtin_cpu_supports says no to all where zig is the compiler, as of the wheels. Bits: Intel's manual, CPUID and
// XCR0.
bool has(unsigned leaf, unsigned ebx, unsigned ecx) {
    unsigned a, b, c, d;
    return __get_cpuid_count(leaf, 0, &a, &b, &c, &d) != 0 && (b & ebx) == ebx && (c & ecx) == ecx;
}

// Whether the system keeps these registers when it switches between programs.
bool keeps(unsigned registers) {
    if (!has(1, 0, 1u << 27)) return false;  // OSXSAVE
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers;
}
#endif

std::vector<Isa> detect() {
    std::vector<Isa> found{Isa::baseline};
#ifdef MIXPRIV_X86_64
    // AVX and F16C; AVX2. Then AVX-512 F, BW and VL.
    if (keeps(0x06) && has(1, 0, 1u << 28 | 1u << 29) && has(7, 1u << 5, 0)) found.push_back(Isa::avx2);
    if (keeps(0xe6) && has(7, 1u << 16 | 1u << 30 | 1u << 31, 0)) found.push_back(Isa::avx512);
#endif
    return found;
}

}  // namespace

const char* name_of(Isa isa) {
    switch (isa) {
        case Isa::avx2:
            return "avx2";
        case Isa::avx512:
            return "avx512";
        default:
            return "baseline";
    }
}

std::vector<Isa> available_isas() {
    static const std::vector<Isa> found = detect();
    return found;
}

Isa current_isa() {
    const std::vector<Isa> found = available_isas();
    const char* forced = std::getenv("MIXPRIV_ISA");
    if (forced == nullptr || *forced == '\0') return found.back();
    std::string names;
    for (const Isa isa : found) {
        if (std::string(forced) == name_of(isa)) return isa;
        names += std::string(names.empty() ? "" : ", ") + name_of(isa);
    }
    throw InputError("MIXPRIV_ISA: expected one of " + names + " on this processor, got '" + forced + "'");
}

}  // namespace mixpriv
