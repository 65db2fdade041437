// The whole CUDA extension as plain C++, in one piece because that compiles fastest. For tests only: never installed.

#include "cuda/python/module.cpp"

#include "cuda/classes.cu"
#include "cuda/emulation/runtime.cpp"
#include "cuda/memory.cu"
#include "cuda/mix.cu"
#include "cuda/python/call.cpp"
#include "cuda/python/device_array.cpp"
#include "cuda/range.cu"
#include "cuda/resample.cu"
#include "cuda/warp.cu"
