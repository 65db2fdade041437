#include "mixpriv/isa.h"

#include <cstdlib>

#include "mixpriv/error.h"

#ifdef MIXPRIV_X86_64
#include <cpuid.h>
#endif

namespace mixpriv {
namespace {

#ifdef MIXPRIV_X86_64
bool has_f16c() {  // not every compiler's __builtin_cpu_supports knows this one
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

std::vector<Isa> detect() {
    std::vector<Isa> found{Isa::baseline};
#ifdef MIXPRIV_X86_64
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && has_f16c()) found.push_back(Isa::avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        found.push_back(Isa::avx512);
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
