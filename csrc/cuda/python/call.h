#pragma once

// One call of a kernel from Python: which device, which stream, which arrays, and what must be waited for.

#include <pybind11/pybind11.h>

#include <algorithm>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/python/device_array.h"
#include "cuda/runtime.h"

namespace mixpriv::cuda {

// An array on a device, whoever owns it.
struct View {
    void* data = nullptr;
    std::string dtype;
    std::vector<int64_t> shape;
    std::vector<bool> flipped;
    int device = 0;
    bool contiguous = true, read_only = false;  // contiguous but for flips

    bool any_flipped() const { return std::find(flipped.begin(), flipped.end(), true) != flipped.end(); }
};

// What a kernel asks of an array. `shape` as in python::checked.
struct Wanted {
    std::vector<int64_t> shape;
    bool writeable = false, flippable = false;
};

template <class T>
struct Operand {
    T* data = nullptr;
    std::vector<int64_t> shape;
    std::vector<bool> flipped;

    Shape3 shape3(size_t first_axis = 0) const {
        return {{shape[first_axis], shape[first_axis + 1], shape[first_axis + 2]}};
    }
    View3 view3() const { return {shape3(), {flipped[0], flipped[1], flipped[2]}}; }
    int64_t count() const {
        int64_t product = 1;
        for (const int64_t n : shape) product *= n;
        return product;
    }
};

class Call {
  public:
    // None: the legacy default stream. Then a call that has used another library's arrays waits until it is done,
    // because that library may give their memory to somebody else on a stream that knows nothing of ours.
    explicit Call(const py::object& stream);

    // The array itself, never a copy. The first one decides on the device.
    template <class T>
    Operand<T> array(const char* name, const py::object& value, const Wanted& wanted) {
        View view = checked(name, value, type_of<std::remove_const_t<T>>(), wanted);
        return {static_cast<T*>(view.data), std::move(view.shape), std::move(view.flipped)};
    }

    template <class T>
    DeviceArray result(std::vector<int64_t> shape) {
        DeviceArray made(type_of<T>(), std::move(shape), *device_, stream_);
        used_.push_back(made.memory());
        return made;
    }

    // kernel(stream), without the GIL.
    template <class Kernel>
    void run(const Kernel& kernel) {
        try {
            const py::gil_scoped_release release;
            kernel(stream_);
        } catch (...) {
            wait_for_what_was_queued();
            throw;
        }
        finish();
    }

  private:
    View checked(const char* name, const py::object& value, const Type& type, const Wanted& wanted);
    View described(const char* name, const py::object& value);
    View view_of(const char* name, const py::object& value);
    View from_dlpack(const char* name, const py::object& value, int device);
    View from_array_interface(const char* name, const py::object& value);
    void enter(const char* name, int device);
    void finish();
    void wait_for_what_was_queued();

    cudaStream_t stream_;
    bool chosen_, foreign_ = false;
    std::optional<int> device_;
    std::optional<DeviceGuard> guard_;
    std::vector<std::shared_ptr<Buffer>> used_;
    std::vector<py::object> kept_;
};

}  // namespace mixpriv::cuda
