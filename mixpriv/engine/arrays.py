"""What goes into a network: checked alike for every engine, never cast or copied without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import InputError

ANY = -1


@dataclass(frozen=True)
class Port:
    """A network's input or output: its shape (-1: any size) and element type."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"[{','.join('?' if n == ANY else str(n) for n in self.shape)}]"


def check_inputs(inputs: Mapping[str, NDArray[Any]], ports: Mapping[str, Port]) -> None:
    """Refuse what an engine would have to cast or copy.

    Raises
    ------
    InputError
        a name, an element type, a shape or the memory order is not the network's.

    Examples
    --------
    >>> ports = {"mixture": Port((1, ANY), np.dtype("float16"))}
    >>> check_inputs({"mixture": np.zeros((1, 4), np.float32)}, ports)
    Traceback (most recent call last):
    ...
    mixpriv.errors.InputError: mixture: expected float16, got float32
    """
    if inputs.keys() != ports.keys():
        raise InputError(f"network inputs: expected {sorted(ports)}, got {sorted(inputs)}")
    for name, array in inputs.items():
        port = ports[name]
        if array.dtype != port.dtype:
            raise InputError(f"{name}: expected {port.dtype}, got {array.dtype}")
        if len(port.shape) != array.ndim or any(
            e not in (ANY, n) for e, n in zip(port.shape, array.shape, strict=True)
        ):
            raise InputError(f"{name}: expected shape {port}, got {array.shape}")
        if not array.flags.c_contiguous:
            raise InputError(f"{name}: expected a C-contiguous array")
