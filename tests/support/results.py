"""A result to look at, of a head that is easy to understand: shells of classes around the middle of a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixpriv.imaging.resample import Conformed, Grid

SHAPE = (32, 32, 32)
SPACING_MM = 4.0
GREYS = np.array([0.1, 0.9, 0.5, 0.2])


def labels() -> NDArray[np.uint8]:
    """Class 1 in the middle, 2 around it, 3 outside, each a ball."""
    index = np.indices(SHAPE) - 15.5
    distance = np.sqrt((index**2).sum(axis=0))
    found = np.zeros(SHAPE, np.uint8)
    for value, radius in ((3, 13), (2, 10), (1, 7)):
        found[distance < radius] = value
    return found


def probabilities(of: NDArray[np.uint8], sure: float = 0.9) -> NDArray[np.float32]:
    """(4, D, H, W): so sure of each label, the rest shared by the other classes."""
    return np.stack([np.where(of == k, sure, (1 - sure) / 3) for k in range(4)]).astype(np.float32)


def conformed(of: NDArray[np.uint8], noise: float = 0.0) -> Conformed:
    """A scan that shows just these labels."""
    image = GREYS[of] + noise * np.random.default_rng(0).standard_normal(of.shape)
    grid = Grid(SHAPE, np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0]))
    return Conformed(image[None].astype(np.float32), (of > 0).astype(np.uint8), ((0.0, 1.0),), grid)
