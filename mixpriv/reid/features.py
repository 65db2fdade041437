"""The fine structure of an image, the folds of a brain: what people are told apart by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv import kernels

Image = NDArray[np.float32]
"""An image (D, H, W) of the bundle's grid, or of a coarser one."""

BAND_MM = (1.0, 6.0)
"""The folds of a brain are finer than the second and coarser than the first, as Gaussian widths."""

WORKING_MM = 4.5
"""Brains are compared on a grid about this fine: what is finer is mostly noise."""

LEAST_VOXELS = 32
"""Smaller images are compared on a finer grid, with so many voxels along the longest side where there are as many."""


def coarsen(image: NDArray[np.floating[Any]], factor: int) -> Image:
    """Mean of blocks of ``factor`` voxels a side; incomplete last blocks are left out.

    Examples
    --------
    >>> coarsen(np.ones((4, 4, 4)), 2).shape
    (2, 2, 2)
    """
    array = np.ascontiguousarray(image, np.float32)
    return array if factor == 1 else kernels.block_mean(array, (factor, factor, factor))


def fine_structure(image: NDArray[np.floating[Any]], spacing_mm: float) -> Image:
    """Band-pass of (D, H, W), zero mean and unit norm: the inner product of two is their correlation."""
    array = np.asarray(image, np.float32)
    low, high = (ndimage.gaussian_filter(array, mm / spacing_mm) for mm in BAND_MM)
    return unit(low - high)


def unit(image: NDArray[np.floating[Any]]) -> Image:
    """Zero mean and unit norm.

    Examples
    --------
    >>> print(unit(np.array([1, 3], np.float32)).round(3))
    [-0.707  0.707]
    """
    centred = np.asarray(image, np.float32) - np.float32(image.mean())
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-12), np.float32)


def working_factor(shape: Sequence[int], spacing_mm: float) -> int:
    """Voxels of a grid in one of the grid on which images (D, H, W) are compared.

    Examples
    --------
    >>> working_factor((160, 192, 160), 1.0)
    4
    """
    return max(1, min(round(WORKING_MM / spacing_mm), max(shape) // LEAST_VOXELS))
