#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cuda/runtime.h"

namespace mixpriv::cuda {
namespace {

constexpr size_t block_bytes = size_t{4} << 20;
constexpr uint64_t kept_bytes = uint64_t{256} << 20;  // freed memory that a device's pool keeps for the next call

// What each device needs once. Never destroyed: at exit the driver may be gone before us.
struct DeviceState {
    cudaMemPool_t pool = nullptr;    // null: this device has no memory pools
    cudaStream_t freeing = nullptr;  // waits for the last use of what is freed
    char* pinned[2] = {};
    cudaEvent_t copied[2] = {};
    std::mutex staging;
};

void make_pool(DeviceState* state, int device) {
    int pools = 0;
    SAFE_CALL(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, device));
    if (pools == 0) return;
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device;
    SAFE_CALL(cudaMemPoolCreate(&state->pool, &properties));
    uint64_t kept = kept_bytes;
    SAFE_CALL(cudaMemPoolSetAttribute(state->pool, cudaMemPoolAttrReleaseThreshold, &kept));
}

DeviceState& state_of(int device) {
    static std::mutex guard;
    static auto& states = *new std::map<int, std::unique_ptr<DeviceState>>;
    const std::lock_guard<std::mutex> lock(guard);
    std::unique_ptr<DeviceState>& state = states[device];
    if (state == nullptr) {
        auto made = std::make_unique<DeviceState>();
        SAFE_CALL(cudaStreamCreateWithFlags(&made->freeing, cudaStreamNonBlocking));
        make_pool(made.get(), device);
        state = std::move(made);
    }
    return *state;
}

// The staging blocks of the current device, locked; made at the first copy.
class Staging {
  public:
    Staging() : state_(state_of(current())), lock_(state_.staging) {
        for (int slot = 0; slot < 2; ++slot) {
            if (state_.pinned[slot] == nullptr)
                SAFE_CALL(
                    cudaHostAlloc(reinterpret_cast<void**>(&state_.pinned[slot]), block_bytes, cudaHostAllocDefault));
            if (state_.copied[slot] == nullptr)
                SAFE_CALL(cudaEventCreateWithFlags(&state_.copied[slot], cudaEventDisableTiming));
        }
    }
    char* block(size_t n) const { return state_.pinned[n % 2]; }
    void wait(size_t n) const { SAFE_CALL(cudaEventSynchronize(state_.copied[n % 2])); }
    void mark(size_t n, cudaStream_t stream) const { SAFE_CALL(cudaEventRecord(state_.copied[n % 2], stream)); }

  private:
    static int current() {
        int device = 0;
        SAFE_CALL(cudaGetDevice(&device));
        return device;
    }
    DeviceState& state_;
    std::lock_guard<std::mutex> lock_;
};

size_t block_count(size_t bytes) {
    return (bytes + block_bytes - 1) / block_bytes;
}

size_t length_of(size_t n, size_t bytes) {
    return std::min(block_bytes, bytes - n * block_bytes);
}

}  // namespace

void check(cudaError_t status, const char* call) {
    if (status == cudaSuccess) return;
    static_cast<void>(cudaGetLastError());  // or the next launch would be blamed for it
    const std::string text(call);
    throw CudaError(text.substr(0, text.find('(')) + ": " + cudaGetErrorString(status) + " (" +
                    cudaGetErrorName(status) + ")");
}

DeviceGuard::DeviceGuard(int device) {
    SAFE_CALL(cudaGetDevice(&before_));
    changed_ = device != before_;
    if (changed_) SAFE_CALL(cudaSetDevice(device));
}

DeviceGuard::~DeviceGuard() {
    if (changed_) static_cast<void>(cudaSetDevice(before_));
}

Buffer::Buffer(size_t bytes, int device, cudaStream_t stream) : bytes_(bytes), device_(device), stream_(stream) {
    const DeviceGuard guard(device);
    const DeviceState& state = state_of(device);
    SAFE_CALL(cudaEventCreateWithFlags(&used_, cudaEventDisableTiming));
    try {
        if (state.pool != nullptr)
            SAFE_CALL(cudaMallocFromPoolAsync(&data_, bytes, state.pool, stream));
        else
            SAFE_CALL(cudaMalloc(&data_, bytes));
        SAFE_CALL(cudaEventRecord(used_, stream));
    } catch (...) {
        if (data_ != nullptr) static_cast<void>(cudaFree(data_));
        static_cast<void>(cudaEventDestroy(used_));
        throw;
    }
}

Buffer::~Buffer() {
    try {
        const DeviceGuard guard(device_);
        const DeviceState& state = state_of(device_);
        if (shared_) SAFE_CALL(cudaDeviceSynchronize());
        if (state.pool != nullptr) {
            SAFE_CALL(cudaStreamWaitEvent(state.freeing, used_, 0));
            SAFE_CALL(cudaFreeAsync(data_, state.freeing));
        } else {
            SAFE_CALL(cudaFree(data_));  // waits for the device
        }
        SAFE_CALL(cudaEventDestroy(used_));
    } catch (const CudaError&) {
        // the device is lost, and its memory with it
    }
}

void Buffer::before_use(cudaStream_t stream) {
    if (stream != stream_) SAFE_CALL(cudaStreamWaitEvent(stream, used_, 0));
}

void Buffer::after_use(cudaStream_t stream) {
    before_use(stream);  // somebody else may have used it meanwhile: the event stands for all uses
    SAFE_CALL(cudaEventRecord(used_, stream));
    stream_ = stream;
}

void upload(void* device, const void* host, size_t bytes, cudaStream_t stream) {
    const Staging staging;
    for (size_t n = 0; n < block_count(bytes); ++n) {
        const size_t offset = n * block_bytes, length = length_of(n, bytes);
        staging.wait(n);
        std::memcpy(staging.block(n), static_cast<const char*>(host) + offset, length);
        SAFE_CALL(cudaMemcpyAsync(static_cast<char*>(device) + offset, staging.block(n), length, cudaMemcpyHostToDevice,
                                  stream));
        staging.mark(n, stream);
    }
}

void download(void* host, const void* device, size_t bytes, cudaStream_t stream) {
    const Staging staging;
    const size_t blocks = block_count(bytes);
    const auto fetch = [&](size_t n) {
        SAFE_CALL(cudaMemcpyAsync(staging.block(n), static_cast<const char*>(device) + n * block_bytes,
                                  length_of(n, bytes), cudaMemcpyDeviceToHost, stream));
        staging.mark(n, stream);
    };
    for (size_t n = 0; n < 2; ++n) staging.wait(n);  // an upload may still be reading them
    if (blocks > 0) fetch(0);
    for (size_t n = 0; n < blocks; ++n) {
        if (n + 1 < blocks) fetch(n + 1);
        staging.wait(n);
        std::memcpy(static_cast<char*>(host) + n * block_bytes, staging.block(n), length_of(n, bytes));
    }
}

void order(cudaStream_t before, cudaStream_t after) {
    if (before == after) return;
    cudaEvent_t reached = nullptr;
    SAFE_CALL(cudaEventCreateWithFlags(&reached, cudaEventDisableTiming));
    const cudaError_t recorded = cudaEventRecord(reached, before);
    const cudaError_t ordered = recorded == cudaSuccess ? cudaStreamWaitEvent(after, reached, 0) : recorded;
    static_cast<void>(cudaEventDestroy(reached));  // not before it is reached: CUDA sees to that
    SAFE_CALL(ordered);
}

}  // namespace mixpriv::cuda
