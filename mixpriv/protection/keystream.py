"""A keyed random stream whose numbers do not depend on a NumPy release.

Only Philox's raw counter-based words are taken from NumPy (their stream is guaranteed); the distributions on top are
defined here, because NumPy may change its own between versions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Size = int | tuple[int, ...]


class Keystream:
    """Random numbers from a 32-byte seed; the same seed gives the same numbers.

    Raises
    ------
    ValueError
        the seed is not 32 bytes.

    Examples
    --------
    >>> Keystream(bytes(32)).uniform(size=3).shape
    (3,)
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise ValueError(f"seed: expected 32 bytes, got {len(seed)}")
        words = np.frombuffer(seed, dtype="<u8")
        self._philox = np.random.Philox(key=words[:2].copy(), counter=np.array([0, 0, words[2], words[3]], np.uint64))

    def __repr__(self) -> str:
        return "Keystream(<secret>)"

    def _words(self, count: int) -> NDArray[np.uint64]:
        return np.asarray(self._philox.random_raw(count), dtype=np.uint64)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Size = 1) -> NDArray[np.float64]:
        """Uniform numbers in [low, high), 53 bits each, float64 of the given size."""
        shape = (size,) if isinstance(size, int) else size
        unit = (self._words(math.prod(shape)) >> np.uint64(11)) * 2.0**-53
        return (low + (high - low) * unit).reshape(shape)

    def normal(self, size: Size = 1) -> NDArray[np.float32]:
        """Standard normal numbers (Box-Muller on 32-bit uniforms), float32 of the given size."""
        shape = (size,) if isinstance(size, int) else size
        count = math.prod(shape)
        pairs = self._words((count + 1) // 2)
        # half a step off zero: the logarithm stays finite
        first = ((pairs >> np.uint64(40)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
        second = (pairs & np.uint64(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24 * 2.0 * math.pi)
        radius = np.sqrt(np.float32(-2.0) * np.log(first))
        out = np.concatenate([radius * np.cos(second), radius * np.sin(second)])
        return np.asarray(out[:count].reshape(shape), dtype=np.float32)
