#pragma once

// What every CUDA file needs: failures that throw, the caller's device put back, memory that frees itself in order.

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "mixpriv/cuda.h"

namespace mixpriv::cuda {

// Throws CudaError if `status` is a failure; `call` is the source text of what failed.
void check(cudaError_t status, const char* call);

#define SAFE_CALL(call) ::mixpriv::cuda::check((call), #call)

// Makes a device current, and the caller's again at the end.
class DeviceGuard {
  public:
    explicit DeviceGuard(int device);
    ~DeviceGuard();
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int before_ = 0;
    bool changed_ = false;
};

// Memory on a device. It may be used on any stream, one after the other: each waits for the one before. Freed in order
// too, without waiting; except where another library was shown the pointer, whose streams we do not know.
class Buffer {
  public:
    Buffer(size_t bytes, int device, cudaStream_t stream);
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    void* data() const { return data_; }
    size_t bytes() const { return bytes_; }
    int device() const { return device_; }
    cudaStream_t stream() const { return stream_; }  // of the last use

    void before_use(cudaStream_t stream);  // the stream waits for the last use
    void after_use(cudaStream_t stream);
    void share() { shared_ = true; }

  private:
    void* data_ = nullptr;
    size_t bytes_;
    int device_;
    cudaStream_t stream_;
    cudaEvent_t used_ = nullptr;
    bool shared_ = false;
};

// Through two page-locked blocks, one being filled or emptied by the processor while the other is on its way. The
// host's memory may be reused when `upload` returns, and holds everything when `download` does.
void upload(void* device, const void* host, size_t bytes, cudaStream_t stream);
void download(void* host, const void* device, size_t bytes, cudaStream_t stream);

// `after` waits for all that was queued on `before` until now.
void order(cudaStream_t before, cudaStream_t after);

}  // namespace mixpriv::cuda
