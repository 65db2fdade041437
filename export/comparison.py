"""How two runtimes' answers differ, as a value: returned and recorded, never only printed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUANTILE = 0.999


@dataclass(frozen=True)
class Comparison:
    """Absolute differences of two arrays: largest, mean, 99.9 % quantile, and the share within one level of 255."""

    largest: float
    mean: float
    quantile_999: float
    within_one_level: float

    @staticmethod
    def of(ours: NDArray[np.generic], theirs: NDArray[np.generic], level: float) -> Comparison:
        """Compare two arrays of one shape; ``level`` is one quantisation step in their unit.

        Raises
        ------
        ValueError
            the shapes differ.
        """
        if ours.shape != theirs.shape:
            raise ValueError(f"expected two arrays of one shape, got {ours.shape} and {theirs.shape}")
        difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        return Comparison(
            float(difference.max()),
            float(difference.mean()),
            float(np.quantile(difference, QUANTILE)),
            float(np.mean(difference <= level * (1 + 1e-9))),
        )
