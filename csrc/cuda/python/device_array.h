#pragma once

// Arrays that the CUDA kernels return: they own their memory and show it to every library that asks.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/runtime.h"

namespace mixpriv::cuda {

namespace py = pybind11;

// An element type, as NumPy, DLPack and people call it.
struct Type {
    const char *typestr, *name;
    uint8_t code;
    int64_t bytes;
};

template <class T>
const Type& type_of();                               // float, uint8_t, and uint16_t for binary16
const Type* type_named(const std::string& typestr);  // null: none that the kernels know

// Whether strides in elements are those of a C-contiguous array, axes that run backwards set apart in `flipped`.
bool is_contiguous(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides, std::vector<bool>* flipped);

class DeviceArray {
  public:
    DeviceArray(std::shared_ptr<Buffer> memory, const Type& type, std::vector<int64_t> shape, std::vector<bool> flipped,
                int64_t offset);
    DeviceArray(const Type& type, std::vector<int64_t> shape, int device, cudaStream_t stream);

    const std::shared_ptr<Buffer>& memory() const { return memory_; }
    const Type& type() const { return *type_; }
    const std::vector<int64_t>& shape() const { return shape_; }
    const std::vector<bool>& flipped() const { return flipped_; }  // axes that run backwards in memory
    int64_t bytes() const;
    std::vector<int64_t> strides() const;  // in elements
    void* data() const;                    // the first element

    DeviceArray part(const py::slice& slice) const;  // along the first axis; the same memory
    py::array copy_to_host() const;
    DeviceArray copy(cudaStream_t stream) const;  // on the same device
    py::dict array_interface() const;
    py::capsule to_dlpack(const py::object& stream, const py::object& max_version, const py::object& dl_device,
                          const py::object& copy) const;

  private:
    void copy_memory(void* to) const;

    std::shared_ptr<Buffer> memory_;
    const Type* type_;
    std::vector<int64_t> shape_;
    std::vector<bool> flipped_;
    int64_t offset_;  // bytes before the part of the memory that is ours
};

// A stream's handle as a number: 0 or 1 is the legacy default stream.
cudaStream_t stream_of(int64_t handle);
int64_t handle_of(cudaStream_t stream);  // above 0

DeviceArray copy_to_device(const py::object& array, int64_t device, cudaStream_t stream);
void define_device_array(py::module_& module);

}  // namespace mixpriv::cuda
