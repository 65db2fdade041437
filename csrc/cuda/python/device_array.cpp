#include "cuda/python/device_array.h"

#include <string>
#include <utility>

#include "cuda/python/dlpack.h"
#include "mixpriv/error.h"
#include "python/arguments.h"

namespace mixpriv::cuda {

using python::whole_number;

namespace {

constexpr Type types[] = {{"<f4", "float32", dlpack::code_float, 4},
                          {"|u1", "uint8", dlpack::code_uint, 1},
                          {"<f2", "float16", dlpack::code_float, 2}};

int64_t product(const std::vector<int64_t>& shape) {
    int64_t count = 1;
    for (const int64_t n : shape) count *= n;
    return count;
}

// What a consumer of DLPack holds.
template <class Managed>
struct Export {
    Managed managed{};
    DeviceArray array;
    std::vector<int64_t> shape, strides;

    explicit Export(const DeviceArray& given) : array(given), shape(given.shape()), strides(given.strides()) {
        const auto bits = static_cast<uint8_t>(array.type().bytes * 8);
        managed.tensor = {array.data(),
                          {dlpack::cuda, array.memory()->device()},
                          static_cast<int32_t>(shape.size()),
                          {array.type().code, bits, 1},
                          shape.data(),
                          strides.data(),
                          0};
        managed.context = this;
        managed.deleter = [](Managed* self) { delete static_cast<Export*>(self->context); };
    }
};

template <class Managed>
py::capsule capsule_of(Managed* managed, const char* name) {
    PyObject* capsule = PyCapsule_New(managed, name, [](PyObject* self) {
        for (const char* unused : {dlpack::legacy_name, dlpack::versioned_name})
            if (PyCapsule_IsValid(self, unused) != 0) {
                auto* inside = static_cast<Managed*>(PyCapsule_GetPointer(self, unused));
                inside->deleter(inside);
            }
    });
    if (capsule == nullptr) {
        managed->deleter(managed);
        throw py::error_already_set();
    }
    return py::reinterpret_steal<py::capsule>(capsule);
}

[[noreturn]] void refuse_buffer(const char* message) {
    PyErr_SetString(PyExc_BufferError, message);
    throw py::error_already_set();
}

}  // namespace

template <>
const Type& type_of<float>() {
    return types[0];
}
template <>
const Type& type_of<uint8_t>() {
    return types[1];
}
template <>
const Type& type_of<uint16_t>() {
    return types[2];
}

const Type* type_named(const std::string& typestr) {
    for (const Type& type : types)
        if (typestr.size() == 3 && typestr.substr(1) == type.typestr + 1 && typestr[0] != '>') return &type;
    return nullptr;
}

bool is_contiguous(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides, std::vector<bool>* flipped) {
    flipped->assign(shape.size(), false);
    int64_t step = 1;
    for (size_t a = shape.size(); a-- > 0; step *= shape[a]) {
        if (shape[a] == 1) continue;
        (*flipped)[a] = strides[a] == -step;
        if (strides[a] != step && strides[a] != -step) return false;
    }
    return true;
}

DeviceArray::DeviceArray(std::shared_ptr<Buffer> memory, const Type& type, std::vector<int64_t> shape,
                         std::vector<bool> flipped, int64_t offset)
    : memory_(std::move(memory)),
      type_(&type),
      shape_(std::move(shape)),
      flipped_(std::move(flipped)),
      offset_(offset) {}

DeviceArray::DeviceArray(const Type& type, std::vector<int64_t> shape, int device, cudaStream_t stream)
    : type_(&type), shape_(std::move(shape)), flipped_(shape_.size()), offset_(0) {
    memory_ = std::make_shared<Buffer>(static_cast<size_t>(bytes()), device, stream);
}

std::vector<int64_t> DeviceArray::strides() const {
    std::vector<int64_t> strides(shape_.size());
    int64_t step = 1;
    for (size_t a = shape_.size(); a-- > 0; step *= shape_[a]) strides[a] = flipped_[a] ? -step : step;
    return strides;
}

void* DeviceArray::data() const {
    int64_t first = 0;
    const std::vector<int64_t> steps = strides();
    for (size_t a = 0; a < shape_.size(); ++a)
        if (flipped_[a]) first -= (shape_[a] - 1) * steps[a];
    return static_cast<char*>(memory_->data()) + offset_ + first * type_->bytes;
}

int64_t DeviceArray::bytes() const {
    return product(shape_) * type_->bytes;
}

DeviceArray DeviceArray::part(const py::slice& slice) const {
    py::ssize_t start = 0, stop = 0, step = 0, length = 0;
    if (!slice.compute(shape_.empty() ? 0 : shape_[0], &start, &stop, &step, &length)) throw py::error_already_set();
    if (step != 1 || length < 1)
        throw InputError("slice: expected at least one of the first axis, step 1, got another");
    std::vector<int64_t> shape = shape_;
    shape[0] = length;
    const int64_t before = flipped_[0] ? shape_[0] - start - length : start;
    return {memory_, *type_, std::move(shape), flipped_, offset_ + before * (bytes() / shape_[0])};
}

py::array DeviceArray::copy_to_host() const {
    const py::array host(py::dtype(type_->name), shape_);
    copy_memory(const_cast<void*>(host.data()));
    py::tuple flips(shape_.size());
    for (size_t a = 0; a < shape_.size(); ++a)
        flips[a] = py::slice(py::none(), py::none(), flipped_[a] ? py::object(py::int_(-1)) : py::object(py::none()));
    return host[flips];
}

DeviceArray DeviceArray::copy(cudaStream_t stream) const {
    const DeviceGuard guard(memory_->device());
    const DeviceArray plain(*type_, shape_, memory_->device(), stream);
    memory_->before_use(stream);
    SAFE_CALL(cudaMemcpyAsync(plain.memory_->data(), static_cast<char*>(memory_->data()) + offset_,
                              static_cast<size_t>(bytes()), cudaMemcpyDeviceToDevice, stream));
    memory_->after_use(stream);
    plain.memory_->after_use(stream);
    return {plain.memory_, *type_, shape_, flipped_, 0};
}

void DeviceArray::copy_memory(void* to) const {
    const py::gil_scoped_release release;
    const DeviceGuard guard(memory_->device());
    download(to, static_cast<char*>(memory_->data()) + offset_, static_cast<size_t>(bytes()), memory_->stream());
}

py::dict DeviceArray::array_interface() const {
    memory_->share();
    py::dict facts;
    facts["shape"] = py::tuple(py::cast(shape_));
    facts["typestr"] = type_->typestr;
    facts["data"] = py::make_tuple(reinterpret_cast<uintptr_t>(data()), false);
    std::vector<int64_t> steps = strides();
    for (int64_t& step : steps) step *= type_->bytes;
    facts["strides"] = py::tuple(py::cast(steps));
    facts["version"] = 3;
    facts["stream"] = handle_of(memory_->stream());
    return facts;
}

py::capsule DeviceArray::to_dlpack(const py::object& stream, const py::object& max_version, const py::object& dl_device,
                                   const py::object& copy) const {
    if (!copy.is_none() && py::bool_(copy))
        refuse_buffer("DeviceArray is shown to other libraries as it is, without a copy");
    if (!dl_device.is_none() && !dl_device.equal(py::make_tuple(dlpack::cuda, memory_->device())))
        refuse_buffer("DeviceArray is shown on its own device only; copy_to_host() brings it to the CPU's memory");
    const int64_t consumer = stream.is_none() ? 1 : whole_number("stream", stream);
    if (consumer == 0 || consumer < -1) throw InputError("stream: expected -1 or a handle above 0, got another number");
    if (consumer != -1) {
        const DeviceGuard guard(memory_->device());
        memory_->before_use(stream_of(consumer));
    }
    memory_->share();
    if (!max_version.is_none() && whole_number("max_version", py::sequence(max_version)[0]) >= 1) {
        auto* made = new Export<dlpack::ManagedVersioned>(*this);
        made->managed.version = {1, 0};
        return capsule_of(&made->managed, dlpack::versioned_name);
    }
    return capsule_of(&(new Export<dlpack::Managed>(*this))->managed, dlpack::legacy_name);
}

cudaStream_t stream_of(int64_t handle) {
    return handle == 1 ? nullptr : reinterpret_cast<cudaStream_t>(static_cast<intptr_t>(handle));
}

int64_t handle_of(cudaStream_t stream) {
    return stream == nullptr ? 1 : static_cast<int64_t>(reinterpret_cast<intptr_t>(stream));
}

DeviceArray copy_to_device(const py::object& value, int64_t device, cudaStream_t stream) {
    const auto array = py::isinstance<py::array>(value) ? py::reinterpret_borrow<py::array>(value) : py::array();
    const Type* type = array.size() > 0 ? type_named(py::str(array.dtype().attr("str"))) : nullptr;
    const std::vector<int64_t> shape = python::shape_of(array);
    std::vector<bool> flipped;
    bool good = type != nullptr;
    if (good) {
        std::vector<int64_t> strides(array.strides(), array.strides() + array.ndim());
        for (int64_t& stride : strides) stride /= type->bytes;
        good = is_contiguous(shape, strides, &flipped);
    }
    if (!good)
        throw InputError(
            "array: expected a C-contiguous float32, float16 or uint8 NumPy array, axes flipped or not, got " +
            python::describe(value));
    const DeviceGuard guard(static_cast<int>(device));
    const DeviceArray plain(*type, shape, static_cast<int>(device), stream);
    DeviceArray result(plain.memory(), *type, shape, flipped, 0);
    const auto first = static_cast<const char*>(result.data()) - static_cast<const char*>(plain.data());
    const char* from = static_cast<const char*>(array.data()) - first;
    const py::gil_scoped_release release;
    upload(plain.data(), from, static_cast<size_t>(plain.bytes()), stream);
    plain.memory()->after_use(stream);
    return result;
}

void define_device_array(py::module_& module) {
    using py::arg;
    py::class_<DeviceArray>(
        module, "DeviceArray",
        "An array in the memory of a CUDA device, C-contiguous. Other libraries take it without a copy, by "
        "DLPack or __cuda_array_interface__.",
        py::module_local())  // tests load the emulation beside the extension
        .def_property_readonly("shape", [](const DeviceArray& self) { return py::tuple(py::cast(self.shape())); })
        .def_property_readonly("dtype", [](const DeviceArray& self) { return py::dtype(self.type().name); })
        .def_property_readonly("ndim", [](const DeviceArray& self) { return self.shape().size(); })
        .def_property_readonly("nbytes", &DeviceArray::bytes)
        .def_property_readonly("device", [](const DeviceArray& self) { return self.memory()->device(); })
        .def("__len__", [](const DeviceArray& self) { return self.shape().at(0); })
        .def("__getitem__", &DeviceArray::part, arg("slice"))
        .def("copy_to_host", &DeviceArray::copy_to_host,
             "The same as a NumPy array; waits for what is still being computed.")
        .def_property_readonly("__cuda_array_interface__", &DeviceArray::array_interface)
        .def("__dlpack_device__",
             [](const DeviceArray& self) { return py::make_tuple(dlpack::cuda, self.memory()->device()); })
        .def("__dlpack__", &DeviceArray::to_dlpack, py::kw_only(), arg("stream") = py::none(),
             arg("max_version") = py::none(), arg("dl_device") = py::none(), arg("copy") = py::none())
        .def("__repr__", [](const DeviceArray& self) {
            return "DeviceArray(" + std::string(self.type().name) + " " + python::shape_text(self.shape()) +
                   ", device " + std::to_string(self.memory()->device()) + ")";
        });
}

}  // namespace mixpriv::cuda
