// The CUDA runtime of the emulation: two devices in host memory, which knows of every pointer where it belongs.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "cuda_runtime.h"

struct EmulatedEvent {
    std::chrono::steady_clock::time_point reached;
};

namespace {

constexpr int devices = 2;
constexpr size_t alignment = 256;  // as cudaMalloc's
constexpr size_t fence = 256;      // bytes behind an allocation that nobody may write
constexpr unsigned char fresh = 0xCD, fenced = 0xFE;

struct Allocation {
    size_t bytes;
    int device;
};

std::mutex guard;
std::map<char*, Allocation> allocations;
thread_local int current = 0;
thread_local cudaError_t last = cudaSuccess;

cudaError_t answer(cudaError_t error) {
    if (error != cudaSuccess) last = error;
    return error;
}

// The allocation that holds a pointer, or null.
const Allocation* find(const void* pointer) {
    auto* address = const_cast<char*>(static_cast<const char*>(pointer));
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin()) return nullptr;
    const auto& [begin, allocation] = *--next;
    return address < begin + allocation.bytes ? &allocation : nullptr;
}

bool fits(const void* pointer, size_t bytes) {
    const std::lock_guard<std::mutex> lock(guard);
    return find(pointer) != nullptr &&
           (bytes == 0 || find(static_cast<const char*>(pointer) + bytes - 1) == find(pointer));
}

}  // namespace

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "no error";
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorInvalidConfiguration:
            return "invalid configuration argument";
        case cudaErrorInvalidDevice:
            return "invalid device ordinal";
        default:
            return "invalid argument";
    }
}

const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "cudaSuccess";
        case cudaErrorMemoryAllocation:
            return "cudaErrorMemoryAllocation";
        case cudaErrorInvalidConfiguration:
            return "cudaErrorInvalidConfiguration";
        case cudaErrorInvalidDevice:
            return "cudaErrorInvalidDevice";
        default:
            return "cudaErrorInvalidValue";
    }
}

cudaError_t cudaGetLastError() {
    const cudaError_t error = last;
    last = cudaSuccess;
    return error;
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = devices;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= devices) return answer(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    *value = attribute == cudaDevAttrMemoryPoolsSupported && device == 0 ? 1 : 0;  // the other one allocates plainly
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    std::snprintf(properties->name, sizeof properties->name, "emulation %d on the CPU", device);
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = 0;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
    const std::lock_guard<std::mutex> lock(guard);
    const Allocation* found = find(pointer);
    *attributes = {found != nullptr ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered,
                   found != nullptr ? found->device : -1};
    return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
    *pool = reinterpret_cast<cudaMemPool_t>(static_cast<uintptr_t>(properties->location.id + 1));
    return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
    constexpr size_t most = size_t{1} << 40;
    auto* memory = bytes > most ? nullptr
                                : static_cast<char*>(std::aligned_alloc(
                                      alignment, (bytes + alignment - 1) / alignment * alignment + fence));
    if (memory == nullptr) return answer(cudaErrorMemoryAllocation);
    std::memset(memory, fresh, bytes);
    std::memset(memory + bytes, fenced, fence);
    const std::lock_guard<std::mutex> lock(guard);
    allocations[memory] = {bytes, current};
    *pointer = memory;
    return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void** pointer, size_t bytes, cudaMemPool_t pool, cudaStream_t) {
    if (pool != reinterpret_cast<cudaMemPool_t>(static_cast<uintptr_t>(current + 1)))
        return answer(cudaErrorInvalidValue);
    return cudaMalloc(pointer, bytes);
}

cudaError_t cudaFree(void* pointer) {
    auto* memory = static_cast<char*>(pointer);
    const std::lock_guard<std::mutex> lock(guard);
    const auto found = allocations.find(memory);
    if (found == allocations.end() || found->second.device != current) return answer(cudaErrorInvalidValue);
    for (size_t i = 0; i < fence; ++i)
        if (static_cast<unsigned char>(memory[found->second.bytes + i]) != fenced) {
            std::fputs("emulation: a kernel wrote behind its array\n", stderr);
            std::abort();
        }
    allocations.erase(found);
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) {
    return cudaFree(pointer);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
    *pointer = std::malloc(bytes);
    return *pointer != nullptr ? cudaSuccess : answer(cudaErrorMemoryAllocation);
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t) {
    if (!fits(pointer, bytes)) return answer(cudaErrorInvalidValue);
    std::memset(pointer, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    if (kind != cudaMemcpyDeviceToHost && !fits(to, bytes)) return answer(cudaErrorInvalidValue);
    if (kind != cudaMemcpyHostToDevice && !fits(from, bytes)) return answer(cudaErrorInvalidValue);
    std::memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    static uintptr_t next = 0x1000;
    *stream = reinterpret_cast<cudaStream_t>(next += 0x10);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) {
    return event != nullptr ? cudaSuccess : answer(cudaErrorInvalidValue);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new EmulatedEvent;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
    *milliseconds = std::chrono::duration<float, std::milli>(to->reached - from->reached).count();
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    if (event == nullptr) return answer(cudaErrorInvalidValue);
    event->reached = std::chrono::steady_clock::now();
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return event != nullptr ? cudaSuccess : answer(cudaErrorInvalidValue);
}

bool emulation::accepts(dim3 grid, dim3 block) {
    const bool good = grid.x >= 1 && grid.x <= 0x7FFFFFFF && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 &&
                      grid.z <= 65535 && block.x >= 1 && block.y >= 1 && block.z >= 1 && block.z <= 64 &&
                      block.x * block.y * block.z <= 1024;
    if (!good) answer(cudaErrorInvalidConfiguration);
    return good;
}
