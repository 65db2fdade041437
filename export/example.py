"""Real-shaped input that belongs to nobody: two drawn references, mixed."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import ReferenceModel, draw_reference


def example_mixture(bundle: Bundle, number: int = 0, weight: float = 0.5) -> NDArray[np.float16]:
    """A mixture (1, M, D, H, W) of synthetic anatomies in the bundle's grid; the same number gives the same one.

    Raises
    ------
    InputError
        the bundle has no reference model.
    """
    model = ReferenceModel.of(bundle)
    seeds = (hashlib.sha256(f"example {number} {which}".encode()).digest() for which in ("target", "reference"))
    target, reference = (draw_reference(model, Keystream(seed)).images for seed in seeds)
    return (weight * target + (1 - weight) * reference).astype(np.float16)[None]
