#pragma once

// The binary interface of DLPack 1.0 (https://dmlc.github.io/dlpack), as far as arrays on CUDA devices need it.

#include <cstdint>

namespace mixpriv::dlpack {

constexpr int32_t cpu = 1, cuda = 2, cuda_managed = 13;
constexpr uint8_t code_uint = 1, code_float = 2;
constexpr uint64_t read_only = 1;
constexpr const char *legacy_name = "dltensor", *versioned_name = "dltensor_versioned";

struct Device {
    int32_t type, id;
};

struct DataType {
    uint8_t code, bits;
    uint16_t lanes;
};

struct Tensor {
    void* data;
    Device device;
    int32_t ndim;
    DataType dtype;
    int64_t* shape;
    int64_t* strides;  // in elements; null: C-contiguous
    uint64_t byte_offset;
};

struct Managed {
    Tensor tensor;
    void* context;
    void (*deleter)(Managed*);
};

struct ManagedVersioned {
    struct {
        uint32_t major, minor;
    } version;
    void* context;
    void (*deleter)(ManagedVersioned*);
    uint64_t flags;
    Tensor tensor;
};

}  // namespace mixpriv::dlpack
