"""A TensorRT and a CUDA runtime that exist only here, and fail where the real ones fail.

A "plan" is the graph itself; it runs in ONNX Runtime. Device memory is host memory of its own. Names that the bindings
of not all versions have are missing here, too.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text(encoding="utf-8"))["names"]
DTYPES = {onnx.TensorProto.FLOAT16: np.float16, onnx.TensorProto.UINT8: np.uint8}


def enumeration(name: str, **values: int) -> type:
    """Named members as recorded; those whose number matters get it."""
    members = [n.removeprefix(f"{name}.") for n in NAMES if n.startswith(f"{name}.")]
    kind = type(name, (int,), {})
    for number, member in enumerate(members):
        value = kind(values.get(member, 100 + number))
        value.__dict__["name"] = member
        setattr(kind, member, value)
    return kind


class Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        kind = value.type.tensor_type
        self.dtype = DTYPES[kind.elem_type]
        self.shape = tuple(d.dim_value or -1 for d in kind.shape.dim)


class ParserError:
    def __init__(self, index: int, node: onnx.NodeProto) -> None:
        self._index, self._node = index, node

    def code(self) -> Any:
        return SimpleNamespace(name="UNSUPPORTED_NODE")

    def desc(self) -> str:
        return f"no importer\n registered for {self._node.op_type}"

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node.name

    def node_operator(self) -> str:
        return self._node.op_type


class FakeTensorRt(ModuleType):
    """The module ``tensorrt`` of a version. ``refuse``: operators that its parser does not know.

    ``unbuildable``, ``no_memory``: no plan comes out, no execution context. ``skewed``: the answers are wrong.
    """

    def __init__(self, version: str = "10.16.1.11") -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.refuse: set[str] = set()
        self.unbuildable = self.no_memory = self.skewed = False
        self.caches_given: list[bytes] = []
        self.flags_given: list[str] = []
        strong = 0 if int(version.split(".")[0]) >= 11 else 1
        self.NetworkDefinitionCreationFlag = enumeration("NetworkDefinitionCreationFlag", STRONGLY_TYPED=strong)
        for name in ("BuilderFlag", "MemoryPoolType", "OnnxParserFlag", "TensorIOMode"):
            setattr(self, name, enumeration(name))
        self.ExecutionContextAllocationStrategy = enumeration("ExecutionContextAllocationStrategy")
        self.ILogger = type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "Severity": int})
        self.Logger = type("Logger", (self.ILogger,), {"__init__": lambda logger, severity: None})
        self.Builder = lambda log: Builder(self, log)
        self.OnnxParser = lambda network, log: Parser(self, network)
        self.Runtime = lambda log: Runtime(self)
        self.nptype = lambda dtype: dtype


class Builder:
    def __init__(self, trt: FakeTensorRt, log: Any) -> None:
        self._trt, self._log = trt, log

    def create_network(self, flags: int = 0) -> Any:
        assert flags == 1 << int(self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return SimpleNamespace(graph=None, get_input=lambda index: self._input)

    def create_builder_config(self) -> Config:
        return Config(self._trt)

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(shapes=shapes, set_shape=lambda name, *sizes: shapes.update({name: sizes}))

    def build_serialized_network(self, network: Any, config: Config) -> bytes | None:
        if self._trt.unbuildable or not config.profiles:
            self._log.log(1, "Error Code 4: Internal Error\n (no optimization profile fits)")
            return None
        content = {
            "version": self._trt.__version__,
            "profiles": config.profiles,
            "compatible": "VERSION_COMPATIBLE" in self._trt.flags_given,
        }
        return json.dumps(content).encode() + b"\0" + network.graph.SerializeToString()


class Parser:
    def __init__(self, trt: FakeTensorRt, network: Any) -> None:
        self._trt, self._network, self._errors = trt, network, []

    def set_flag(self, flag: Any) -> None:
        self._trt.flags_given.append(flag.name)

    def parse(self, model: bytes) -> bool:
        graph = onnx.ModelProto.FromString(model)
        nodes = enumerate(graph.graph.node)
        self._errors = [ParserError(i, node) for i, node in nodes if node.op_type in self._trt.refuse]
        self._network.graph = graph
        self._network.get_input = lambda index: Tensor(graph.graph.input[index])
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class Config:
    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt, self.profiles = trt, []

    def set_flag(self, flag: Any) -> None:
        self._trt.flags_given.append(flag.name)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        assert pool == self._trt.MemoryPoolType.WORKSPACE

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized: bytes) -> bytes:
        self._trt.caches_given.append(serialized)
        return serialized

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        return not cache or cache == f"timings of {self._trt.__version__}".encode()

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: f"timings of {self._trt.__version__}".encode())


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        header, _, graph = plan.partition(b"\0")
        content = json.loads(header)
        compatible = content["compatible"] and self.engine_host_code_allowed
        if content["version"] != self._trt.__version__ and not compatible:
            return None
        return Engine(self._trt, content["profiles"], onnx.ModelProto.FromString(graph))


class Engine:
    def __init__(self, trt: FakeTensorRt, profiles: list[Any], model: onnx.ModelProto) -> None:
        self.trt, self.profiles = trt, profiles
        self.inputs = {t.name: t for t in map(Tensor, model.graph.input)}
        self.outputs = {t.name: t for t in map(Tensor, model.graph.output)}
        self.tensors = self.inputs | self.outputs
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        self.num_io_tensors, self.num_optimization_profiles = len(self.tensors), len(profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name in self.inputs else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        return self.profiles[profile][name]

    def create_execution_context(self, strategy: Any) -> Context | None:
        assert strategy == self.trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        return None if self.trt.no_memory else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._profile = engine, 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return 0 <= profile < self._engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine.profiles[self._profile][name]
        self._shapes[name] = tuple(shape)
        return all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine.inputs if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        (batch, _, *space), channels = next(iter(self._shapes.values())), self._engine.tensors[name].shape[1]
        return (batch, channels, *space)

    def execute_async_v3(self, stream: int) -> bool:
        feeds = {name: _at(self._addresses[name], shape, np.float16) for name, shape in self._shapes.items()}
        for name, answer in zip(self._engine.outputs, self._engine.session.run(None, feeds), strict=True):
            there = _at(self._addresses[name], answer.shape, answer.dtype)
            there[...] = answer + 3 if self._engine.trt.skewed else answer
        return True


def _at(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


class FakeCuda(ModuleType):
    """The module ``cuda.bindings.runtime``; ``error``: what every call returns from now on."""

    def __init__(self, gpu: str = "NVIDIA Imagined", capability: tuple[int, int] = (9, 0)) -> None:
        super().__init__("cuda.bindings.runtime")
        self.cudaError_t = SimpleNamespace(cudaSuccess=SimpleNamespace(name="cudaSuccess"))
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        self.cudaStreamNonBlocking = 1
        self.error = self.cudaError_t.cudaSuccess
        self.memory: dict[int, Any] = {}
        self._properties = SimpleNamespace(name=gpu.encode(), major=capability[0], minor=capability[1])

    def fail(self, name: str) -> None:
        self.error = SimpleNamespace(name=name)

    def cudaGetDevice(self) -> tuple[Any, ...]:  # noqa: N802
        return self.error, 0

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        return (self.error,)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        return self.error, self._properties

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        return self.error, 7

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return (self.error,)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:  # noqa: N802
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return self.error, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        del self.memory[address]
        return (self.error,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Any, ...]:  # noqa: N802
        device = target if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else source
        assert device in self.memory
        assert size <= len(self.memory[device])
        ctypes.memmove(target, source, size)
        return (self.error,)
