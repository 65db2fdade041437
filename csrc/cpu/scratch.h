#pragma once

// Working memory for the length of a call, as NumPy asks for its large arrays: in huge pages where the system has them,
// because getting thousands of small ones takes as long as what is then computed in them.

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace mixpriv {

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

template <class T>
using Scratch = std::unique_ptr<T[], Free>;

// Room for so many; what is there first is undefined.
template <class T>
Scratch<T> scratch(int64_t count) {
    constexpr size_t huge = size_t{1} << 21, line = 64;
    const size_t needed = static_cast<size_t>(count) * sizeof(T), unit = needed < huge ? line : huge;
    const size_t bytes = (needed + unit - 1) / unit * unit;
    void* const memory = std::aligned_alloc(unit, bytes);
    if (memory == nullptr) throw std::bad_alloc();
#ifdef __linux__
    if (unit == huge) madvise(memory, bytes, MADV_HUGEPAGE);  // advice: no matter if it is refused
#endif
    return Scratch<T>(static_cast<T*>(memory));
}

}  // namespace mixpriv
