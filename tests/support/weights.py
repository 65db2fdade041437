"""Finds the weights of a network in other files and in what was sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

_WINDOW = 16
"""Bytes: 8 weights in FP16, or 4 in float32. By chance so many are not alike."""

_BITS = 26


class Weights:
    """The weights of an ONNX file, in FP16 and in float32."""

    def __init__(self, network: Path) -> None:
        arrays = [numpy_helper.to_array(tensor) for tensor in onnx.load(network).graph.initializer]
        found = []
        for array in arrays:
            if array.size >= 256 and np.issubdtype(array.dtype, np.floating):
                for data in (array.astype(np.float16).tobytes(), array.astype(np.float32).tobytes()):
                    found.append(_keys(np.frombuffer(data, np.uint8)[: len(data) // _WINDOW * _WINDOW]))
        self._keys = np.unique(np.concatenate(found))
        self._some = np.zeros(2**_BITS, bool)  # a look here spares most a search there
        self._some[self._keys >> np.uint64(64 - _BITS)] = True

    def count_in(self, data: bytes | bytearray) -> int:
        """How many pieces of 16 bytes of the weights stand anywhere in the data."""
        whole = np.frombuffer(data, np.uint8)
        shifted = [whole[start:][: (len(whole) - start) // _WINDOW * _WINDOW] for start in range(_WINDOW)]
        return sum(self._count(_keys(part)) for part in shifted)

    def _count(self, keys: NDArray[np.uint64]) -> int:
        maybe = keys[self._some[keys >> np.uint64(64 - _BITS)]]
        return int((self._keys[np.searchsorted(self._keys, maybe) % len(self._keys)] == maybe).sum())


def _keys(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """One number for each piece of 16 bytes whose two halves differ: of zeros there are many everywhere."""
    halves = np.frombuffer(data.tobytes(), "<u8").reshape(-1, 2)
    halves = halves[halves[:, 0] != halves[:, 1]]
    return np.asarray(halves[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ halves[:, 1], np.uint64)
