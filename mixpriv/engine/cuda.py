"""The few calls of the CUDA runtime that a plan needs, by NVIDIA's cuda-python."""

from __future__ import annotations

from typing import Any

import numpy as np
from cuda.bindings import runtime
from numpy.typing import NDArray

from mixpriv.engine.plan import Gpu
from mixpriv.errors import EngineError


def call(answer: tuple[Any, ...]) -> Any:
    """The value of a runtime call, which gives its error first.

    Raises
    ------
    EngineError
        the call failed.
    """
    error, *values = answer
    if error != runtime.cudaError_t.cudaSuccess:
        raise EngineError(f"the GPU cannot be used: {error.name}")
    return values[0] if values else None


def current_gpu() -> Gpu:
    """The device of this thread."""
    properties = call(runtime.cudaGetDeviceProperties(call(runtime.cudaGetDevice())))
    return Gpu(properties.name.decode(), f"{properties.major}.{properties.minor}")


def use_gpu(index: int) -> None:
    """Choose the device of this thread."""
    call(runtime.cudaSetDevice(index))


class Stream:
    """A stream of its own, so that nothing waits for another's work; with the buffers that are used on it.

    Given back when the process ends, like the engine that it is for.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, tuple[int, int]] = {}
        self._handle = call(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))
        self.handle = int(self._handle)

    def buffer(self, name: str, size: int) -> int:
        """Address of at least so many bytes, kept under a name; what it held is gone if it must grow."""
        address, capacity = self._buffers.get(name, (0, 0))
        if capacity < size:
            if address:
                call(runtime.cudaFree(address))
                del self._buffers[name]
            address = int(call(runtime.cudaMalloc(size)))
            self._buffers[name] = address, size
        return address

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copy an array to the device."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(runtime.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, self._handle))

    def download(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A new array from the device, once all that was asked of the stream is done."""
        array: NDArray[Any] = np.empty(shape, dtype)
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(runtime.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, self._handle))
        call(runtime.cudaStreamSynchronize(self._handle))
        return array
