"""The kernels on CUDA devices, behind the functions of `mixpriv.kernels`: there an array on a device runs here.

Arrays of any library (PyTorch, CuPy, Numba, ...) that show themselves by DLPack or ``__cuda_array_interface__`` are
taken without a copy; results are `DeviceArray`, which those libraries take in turn. Work is queued on the stream that
`stream` chooses, else on the legacy default stream; the device is that of the first array, and the caller's device and
stream stay as they are. Where a number is returned, or labels are checked, the call waits until it is done.

Not compiled into every installation: `problem` says whether and why not. The environment variable
``MIXPRIV_CUDA_EMULATION`` names an emulation of the extension to load in its place, for tests without a GPU.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import DeviceError, InputError

if TYPE_CHECKING:
    from mixpriv._cuda import DeviceArray

EMULATION = "MIXPRIV_CUDA_EMULATION"
_stream: ContextVar[int | None] = ContextVar("stream", default=None)


@contextmanager
def stream(chosen: Any) -> Iterator[None]:
    """Queue the kernels on a stream while it lasts, in this thread.

    The caller then keeps the arrays of other libraries alive until the stream has done with them, as with all work on a
    stream.

    Parameters
    ----------
    chosen : a handle, or a stream of PyTorch, CuPy or any library with ``__cuda_stream__``

    Raises
    ------
    InputError
        it is none of these.
    """
    token = _stream.set(_handle(chosen))
    try:
        yield
    finally:
        _stream.reset(token)


def is_device_array(array: object) -> bool:
    """Whether an array lies on a CUDA device, as far as it says so itself."""
    if isinstance(array, np.ndarray) or array is None:
        return False
    where = getattr(array, "__dlpack_device__", None)
    if where is not None:
        return int(where()[0]) in _CUDA_KINDS
    return hasattr(array, "__cuda_array_interface__")


NOT_COMPILED = "mixpriv was installed without its CUDA extension, see docs/kernels.md"
_CUDA_KINDS = (2, 13)  # DLPack's: the device's own memory, managed memory


def problem() -> str | None:
    """Say why no kernel can run on a CUDA device here, or None if one can."""
    module, missing = _load_from(os.environ.get(EMULATION))
    if module is None:
        return missing
    try:
        found = module.devices()
    except DeviceError as error:
        return f"no CUDA device found ({error})"
    return None if found else "no CUDA device found"


def devices() -> list[str]:
    """Names of the devices; none if `problem` has something to say."""
    return [] if problem() else list(_extension().devices())


def is_emulation() -> bool:
    """Whether what is loaded only emulates a device, for tests."""
    module = _load()
    return module is not None and bool(module.emulation)


def summary() -> str:
    """One line for people: compiled or not, and the devices found."""
    module = _load()
    if module is None:
        return "not compiled" if problem() == NOT_COMPILED else str(problem())
    if module.emulation:
        return "emulation on the CPU, for tests only"
    return "compiled, " + (problem() or ", ".join(devices()))


def to_device(array: NDArray[Any], device: int | None = None) -> DeviceArray:
    """Copy a C-contiguous float32, float16 or uint8 array to a device, through page-locked memory.

    The array may be changed or freed at once. Flipped axes stay so: its memory is copied as it lies.

    Parameters
    ----------
    device : its number; None for the current device

    Raises
    ------
    InputError
        the array is not as above.
    DeviceError
        there is no such device, or not enough memory on it.
    """
    module = _extension()
    return module.to_device(array, module.current_device() if device is None else device, _stream.get())


def copy(array: DeviceArray) -> DeviceArray:
    """The same on the same device, in memory of its own."""
    return _extension().copy(array, _stream.get())


def seconds(work: Callable[[], object]) -> float:
    """How long the device takes for what ``work`` queues on the chosen stream."""
    begin = _extension().Moment(_stream.get())
    work()
    return float(_extension().Moment(_stream.get()).seconds_since(begin))


def synchronize() -> None:
    """Wait for all work on the chosen stream."""
    _extension().synchronize(_stream.get())


# The kernels: see mixpriv.kernels.


def robust_range(
    image: Any, mask: Any = None, lower_percent: float = 0.5, upper_percent: float = 99.5
) -> tuple[float, float]:
    """`mixpriv.kernels.robust_range` on a device."""
    return _extension().robust_range(image, mask, lower_percent, upper_percent, _stream.get())


def mix(
    target: Any,
    target_mask: Any,
    target_range: tuple[float, float],
    reference: Any,
    reference_mask: Any,
    weight: float,
    *,
    warp: tuple[Any, float] | None = None,
) -> DeviceArray:
    """`mixpriv.kernels.mix` on a device; a warp's control points lie there too."""
    return _extension().mix(
        target,
        target_mask,
        target_range,
        reference,
        reference_mask,
        weight,
        warp,
        _stream.get(),
    )


def unpack(answer: Any, reference_labels: Any, weight: float, *, out: Any = None) -> Any:
    """`mixpriv.kernels.unpack` on a device; ``out`` lies there too."""
    return _extension().unpack(answer, reference_labels, weight, out, _stream.get())


def accumulate(total: Any, probabilities: Any) -> None:
    """`mixpriv.kernels.accumulate` on a device."""
    _extension().accumulate(total, probabilities, _stream.get())


def argmax(probabilities: Any) -> DeviceArray:
    """`mixpriv.kernels.argmax` on a device."""
    return _extension().argmax(probabilities, _stream.get())


def resample(image: Any, matrix: NDArray[np.float64], shape: tuple[int, int, int]) -> DeviceArray:
    """`mixpriv.kernels.resample` on a device; the matrix is a NumPy array."""
    return _extension().resample(image, matrix, shape, _stream.get())


def block_mean(image: Any, factors: tuple[int, int, int]) -> DeviceArray:
    """`mixpriv.kernels.block_mean` on a device."""
    return _extension().block_mean(image, factors, _stream.get())


def restore_labels(
    probabilities: Any, matrix: NDArray[np.float64], shape: tuple[int, int, int], *, mask: Any = None
) -> DeviceArray:
    """`mixpriv.kernels.restore_labels` on a device; the matrix is a NumPy array."""
    return _extension().restore_labels(probabilities, matrix, shape, mask, _stream.get())


def warp(channels: Any, control: Any, knots: float, *, fill_background: bool = False) -> DeviceArray:
    """`mixpriv.kernels.warp` on a device."""
    return _extension().warp(channels, control, knots, fill_background, _stream.get())


def warp_labels(labels: Any, control: Any, knots: float) -> DeviceArray:
    """`mixpriv.kernels.warp_labels` on a device."""
    return _extension().warp_labels(labels, control, knots, _stream.get())


def _extension() -> Any:
    module = _load()
    if module is None:
        raise DeviceError(str(problem()))
    return module


def _load() -> ModuleType | None:
    return _load_from(os.environ.get(EMULATION))[0]


@functools.cache
def _load_from(emulation: str | None) -> tuple[ModuleType | None, str]:
    """The extension, or None and why: one that does not fit this machine is as good as none."""
    if emulation:
        spec = importlib.util.spec_from_file_location("_cuda_emulation", emulation)
        if spec is None or spec.loader is None:
            raise InputError(f"{EMULATION}: expected the emulation's file, got {emulation!r}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module, ""
    if importlib.util.find_spec("mixpriv._cuda") is None:
        return None, NOT_COMPILED
    try:
        return importlib.import_module("mixpriv._cuda"), ""
    except ImportError as error:
        return None, f"its CUDA extension cannot be loaded ({str(error).splitlines()[0]})"


def _handle(chosen: Any) -> int:
    if hasattr(chosen, "__cuda_stream__"):
        return int(chosen.__cuda_stream__()[1])
    for name in ("cuda_stream", "ptr"):  # PyTorch's, CuPy's
        if hasattr(chosen, name):
            return int(getattr(chosen, name))
    if isinstance(chosen, int):
        return chosen
    raise InputError(f"stream: expected a CUDA stream or its handle, got {type(chosen).__name__}")
