#include "cuda/python/call.h"

#include "cuda/python/dlpack.h"
#include "mixpriv/error.h"
#include "python/arguments.h"

namespace mixpriv::cuda {
namespace {

using python::shape_text;

std::string type_name(const py::handle& value) {
    return py::str(py::type::of(value).attr("__name__"));
}

std::string dtype_name(dlpack::DataType type) {
    const char* kinds[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
    const std::string kind = type.code < 7 ? kinds[type.code] : "type";
    return kind + std::to_string(type.bits) + (type.lanes == 1 ? "" : "x" + std::to_string(type.lanes));
}

View view_of_tensor(const dlpack::Tensor& tensor, bool read_only) {
    View view;
    view.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
    view.dtype = dtype_name(tensor.dtype);
    view.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
    view.device = tensor.device.id;
    view.read_only = read_only;
    view.flipped.assign(view.shape.size(), false);
    if (tensor.strides != nullptr)
        view.contiguous = is_contiguous(view.shape, {tensor.strides, tensor.strides + tensor.ndim}, &view.flipped);
    return view;
}

// Asks for the newest kind of capsule, then for the old one: before DLPack 1.0 nobody knew `max_version`.
py::object capsule_from(const char* name, const py::object& value, cudaStream_t stream) {
    py::dict options;
    options["stream"] = handle_of(stream);
    options["max_version"] = py::make_tuple(1, 0);
    const auto ask = [&] { return py::object(value.attr("__dlpack__")(**options)); };
    try {
        try {
            return ask();
        } catch (py::error_already_set& error) {
            if (!error.matches(PyExc_TypeError)) throw;
            PyDict_DelItemString(options.ptr(), "max_version");
            return ask();
        }
    } catch (py::error_already_set& error) {
        throw InputError(std::string(name) + ": expected an array that DLPack can share, got " + type_name(value) +
                         " and " + type_name(error.value()));
    }
}

int64_t element_bytes(const std::string& typestr) {
    const int64_t bytes = typestr.size() > 2 ? std::atoll(typestr.c_str() + 2) : 0;
    return bytes > 0 ? bytes : 1;
}

std::string text_of(const View& view) {
    return view.dtype + " " + shape_text(view.shape) + (view.contiguous ? "" : ", not C-contiguous") +
           (view.any_flipped() ? ", axes flipped" : "") + (view.read_only ? ", read-only" : "");
}

bool fits(const View& view, const Type& type, const Wanted& wanted) {
    for (const int64_t n : view.shape)
        if (n < 1) return false;
    const auto address = reinterpret_cast<uintptr_t>(view.data);
    return view.dtype == type.name && view.contiguous && (wanted.flippable || !view.any_flipped()) &&
           !view.shape.empty() && !(wanted.writeable && view.read_only) &&
           address % static_cast<uintptr_t>(type.bytes) == 0 &&
           (wanted.shape.empty() || python::fits(view.shape, wanted.shape));
}

}  // namespace

Call::Call(const py::object& stream)
    : stream_(stream.is_none() ? nullptr : stream_of(python::whole_number("stream", stream))),
      chosen_(!stream.is_none()) {}

void Call::enter(const char* name, int device) {
    if (!device_) {
        device_ = device;
        guard_.emplace(device);
    }
    if (device != *device_)
        throw InputError(std::string(name) + ": expected an array on device " + std::to_string(*device_) +
                         " like the first, got one on device " + std::to_string(device));
}

View Call::view_of(const char* name, const py::object& value) {
    if (py::isinstance<DeviceArray>(value)) {
        const auto& array = value.cast<const DeviceArray&>();
        enter(name, array.memory()->device());
        array.memory()->before_use(stream_);
        used_.push_back(array.memory());
        return {array.data(), array.type().name, array.shape(), array.flipped(), array.memory()->device(), true, false};
    }
    bool host = py::hasattr(value, "__array_interface__");
    if (py::hasattr(value, "__dlpack_device__")) {
        const py::sequence where = value.attr("__dlpack_device__")();
        const int64_t kind = python::whole_number(name, py::int_(py::object(where[0])));
        if (kind == dlpack::cuda || kind == dlpack::cuda_managed)
            return from_dlpack(name, value, static_cast<int>(python::whole_number(name, where[1])));
        host = host || kind == dlpack::cpu;
    } else if (py::hasattr(value, "__cuda_array_interface__")) {
        return from_array_interface(name, value);
    }
    throw InputError(std::string(name) + ": expected an array on a CUDA device, got " + python::describe(value) +
                     (host ? " in the CPU's memory" : ""));
}

View Call::described(const char* name, const py::object& value) {
    try {
        return view_of(name, value);
    } catch (const py::error_already_set& error) {
        throw InputError(std::string(name) + ": expected an array that describes itself, got " + type_name(value) +
                         " and " + type_name(error.value()));
    } catch (const py::builtin_exception&) {
        throw InputError(std::string(name) + ": expected an array that describes itself, got " + type_name(value) +
                         " that does not");
    }
}

View Call::from_dlpack(const char* name, const py::object& value, int device) {
    enter(name, device);
    const py::object capsule = capsule_from(name, value, stream_);
    kept_.push_back(capsule);
    foreign_ = true;
    if (PyCapsule_IsValid(capsule.ptr(), dlpack::versioned_name) != 0) {
        const auto* managed =
            static_cast<const dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::versioned_name));
        if (managed->version.major == 1)
            return view_of_tensor(managed->tensor, (managed->flags & dlpack::read_only) != 0);
    } else if (PyCapsule_IsValid(capsule.ptr(), dlpack::legacy_name) != 0) {
        return view_of_tensor(
            static_cast<const dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::legacy_name))->tensor,
            false);
    }
    throw InputError(std::string(name) + ": expected a capsule of DLPack 1 or before, got another from " +
                     type_name(value));
}

View Call::from_array_interface(const char* name, const py::object& value) {
    const py::dict facts = value.attr("__cuda_array_interface__");
    const auto entry = [&](const char* key) {
        return facts.contains(key) ? py::object(facts[key]) : py::object(py::none());
    };
    if (!entry("mask").is_none())
        throw InputError(std::string(name) + ": expected an array without a mask, got one with a mask");
    const py::sequence data = entry("data");
    View view;
    view.data = reinterpret_cast<void*>(py::object(data[0]).cast<uintptr_t>());
    view.read_only = py::object(data[1]).cast<bool>();
    const std::string typestr = py::str(entry("typestr"));
    const Type* type = type_named(typestr);
    view.dtype = type != nullptr ? type->name : typestr;
    view.shape = entry("shape").cast<std::vector<int64_t>>();
    view.flipped.assign(view.shape.size(), false);
    if (!entry("strides").is_none()) {
        auto strides = entry("strides").cast<std::vector<int64_t>>();
        for (int64_t& stride : strides) stride /= element_bytes(typestr);
        view.contiguous = is_contiguous(view.shape, strides, &view.flipped);
    }
    cudaPointerAttributes attributes{};
    SAFE_CALL(cudaPointerGetAttributes(&attributes, view.data));
    if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged)
        throw InputError(std::string(name) + ": expected an array on a CUDA device, got " + type_name(value) +
                         " whose pointer no device knows");
    view.device = attributes.device;
    enter(name, view.device);
    if (!entry("stream").is_none()) order(stream_of(python::whole_number(name, entry("stream"))), stream_);
    kept_.push_back(value);
    foreign_ = true;
    return view;
}

View Call::checked(const char* name, const py::object& value, const Type& type, const Wanted& wanted) {
    View view = described(name, value);
    if (!fits(view, type, wanted))
        throw InputError(std::string(name) + ": expected a " + (wanted.writeable ? "writable " : "") + "C-contiguous " +
                         type.name + " array " +
                         (wanted.shape.empty() ? std::string("with at least one element") : shape_text(wanted.shape)) +
                         (wanted.flippable ? ", axes flipped or not" : "") + ", got " + text_of(view));
    return view;
}

void Call::finish() {
    for (const auto& memory : used_) memory->after_use(stream_);
    if (!foreign_ || chosen_) return;
    const py::gil_scoped_release release;
    SAFE_CALL(cudaStreamSynchronize(stream_));
}

void Call::wait_for_what_was_queued() {
    static_cast<void>(cudaStreamSynchronize(stream_));  // there is a failure to tell already
    static_cast<void>(cudaGetLastError());
}

}  // namespace mixpriv::cuda
