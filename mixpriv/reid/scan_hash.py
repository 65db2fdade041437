"""A keyed perceptual hash of a scan: finds a re-exported copy of one that was sent before. It never leaves.

Exact content has a digest; a copy that was re-oriented, resampled or rescaled has another. In the bundle's grid, which
takes out position, size and orientation, such a copy still looks the same at several millimetres.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv import kernels
from mixpriv.float16 import single
from mixpriv.key import ClientKey

BITS = 512
SAME_SCAN = 0.17
"""Two scans that differ in a smaller share of their bits are reported as copies of one another.

Measured on 21 scans of 19 people: mirrored, resampled, noisy or thick-sliced copies differ in at most 0.12, two visits
of one person in 0.11 and 0.20, two people in 0.24 or more. A copy turned by 10 degrees is not recognised.
"""

_BLOCK_MM = 6.0


def scan_hash(brain: NDArray[np.float16], spacing_mm: float, key: ClientKey) -> bytes:
    """Signs of secret projections of a normalised brain (D, H, W), 64 bytes; without the key they say nothing of it."""
    factor = max(1, round(_BLOCK_MM / spacing_mm))
    coarse = kernels.block_mean(single(brain), (factor, factor, factor))
    detail = (coarse - ndimage.gaussian_filter(coarse, 1.5)) * (coarse > 0)
    detail -= detail.mean()
    random = hashlib.shake_256(key.derive("likeness")).digest((BITS * detail.size + 7) // 8)
    eights = np.frombuffer(random, np.uint8).reshape(-1, detail.size)  # of signs for eight bits each: in the caches
    signs = (np.unpackbits(part).reshape(8, -1) for part in eights)
    # sum over ±1 signs, as twice the sum over the ones: the total of a zero-mean image is zero
    return np.packbits([part.astype(np.float32) @ detail.ravel() > 0 for part in signs]).tobytes()


def distance(one: bytes, other: bytes) -> float:
    r"""Share of bits in which two hashes differ: 0 for the same image, about 1/2 for unrelated ones.

    Examples
    --------
    >>> distance(b"\x00", b"\x03")
    0.25
    """
    bits = np.unpackbits(np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8))
    return float(bits.mean())
