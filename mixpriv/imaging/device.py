"""Where the voxel work of a scan is done: on the processor, or on a CUDA device with copies there and back.

On a device are sampling in the bundle's grid, robust range, mixing, unpacking and restoring; networks, brain
extraction, references and files stay on the processor.
"""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from mixpriv import cuda
from mixpriv.errors import DeviceError, InputError

CHOICES = ("auto", "cpu", "cuda")
VARIABLE = "MIXPRIV_DEVICE"

PAYS_FROM_SCANS = 4
"""Scans in one command from which ``auto`` takes a GPU.

Expected, not measured: starting CUDA costs some tenths of a second once, and a scan saves less than that.
"""


class Device:
    """The processor: every array is already there."""

    name = "cpu"

    def to_device(self, array: NDArray[Any]) -> Any:
        """The array as the kernels take it here."""
        return array

    def to_host(self, array: Any) -> NDArray[Any]:
        """What the kernels returned, as a NumPy array."""
        result: NDArray[Any] = array
        return result


class CudaDevice(Device):
    """The current CUDA device.

    Copies go through two page-locked blocks, one being filled while the other is on its way. What is sent there does
    not wait for its arrival, and kernels do not wait for their end: only `to_host` does.

    Raises
    ------
    DeviceError
        there is none, or mixpriv was installed without CUDA.
    """

    def __init__(self) -> None:
        if why := cuda.problem():
            raise DeviceError(f"device cuda: {why}")
        self.name = f"cuda: {cuda.devices()[0]}"

    def to_device(self, array: NDArray[Any]) -> Any:
        return cuda.to_device(array)

    def to_host(self, array: Any) -> NDArray[Any]:
        result: NDArray[Any] = array.copy_to_host()
        return result


CPU = Device()


def choose_device(name: str | None, scans: int = 1) -> Device:
    """Find the device that a user named; ``auto`` is CUDA where it is there and expected to pay.

    Parameters
    ----------
    name : auto, cpu or cuda; None for what MIXPRIV_DEVICE names, else auto
    scans : how many are to be done

    Raises
    ------
    InputError
        it is none of these.
    DeviceError
        it is cuda, and there is none.

    Examples
    --------
    >>> choose_device("cpu").name
    'cpu'
    """
    chosen = name or os.environ.get(VARIABLE) or "auto"
    if chosen not in CHOICES:
        raise InputError(f"device: expected one of {', '.join(CHOICES)}, got {chosen!r}")
    if chosen == "auto":
        pays = scans >= PAYS_FROM_SCANS and not cuda.is_emulation() and cuda.problem() is None
        chosen = "cuda" if pays else "cpu"
    return CudaDevice() if chosen == "cuda" else CPU
