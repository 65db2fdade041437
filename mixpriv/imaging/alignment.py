"""Where a brain lies in the bundle's grid: one affine from its mask, the same at training and at use.

The brain's centroid goes to a fixed grid point and its extent along R, A and S is scaled to an average brain's. Size,
position and voxel geometry of the scan therefore never leave the client.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Alignment
from mixpriv.errors import InputError

MIN_BRAIN_ML = 300.0
"""Less than this in a mask is no brain (a newborn's has about 350 ml)."""

_SCALE_LIMITS = (0.65, 1.5)


def mask_moments_mm(
    mask: NDArray[np.bool_], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centroid and per-axis standard deviation of a mask in world space.

    Parameters
    ----------
    mask : (I, J, K) bool
    affine : (4, 4) voxel index to world mm (RAS+)

    Returns
    -------
    centre_mm, std_mm : (3,), (3,) in R, A, S order

    Raises
    ------
    InputError
        the mask is empty.

    Examples
    --------
    >>> mask = np.zeros((5, 5, 5), bool)
    >>> mask[2, 2, 1:4] = True
    >>> centre_mm, std_mm = mask_moments_mm(mask, np.diag([2.0, 2.0, 2.0, 1.0]))
    >>> centre_mm.tolist(), std_mm.round(2).tolist()
    ([4.0, 4.0, 4.0], [0.0, 0.0, 1.63])
    """
    planes = {axis: np.count_nonzero(mask, axis=axis).astype(np.float64) for axis in range(3)}
    counts = [planes[2].sum(1), planes[2].sum(0), planes[0].sum(0)]
    total = int(counts[0].sum())
    if total == 0:
        raise InputError("brain mask: expected at least one voxel, got none")
    index = [np.arange(n, dtype=np.float64) for n in mask.shape]
    mean = np.array([c @ i / total for c, i in zip(counts, index, strict=True)])
    cov = np.diag([c @ (i - m) ** 2 / total for c, i, m in zip(counts, index, mean, strict=True)])
    for (p, q), axis in (((0, 1), 2), ((0, 2), 1), ((1, 2), 0)):
        cov[p, q] = cov[q, p] = (index[p] - mean[p]) @ planes[axis] @ (index[q] - mean[q]) / total
    linear = affine[:3, :3]
    return linear @ mean + affine[:3, 3], np.sqrt(np.diag(linear @ cov @ linear.T))


def grid_to_world(
    centre_mm: NDArray[np.float64], std_mm: NDArray[np.float64], alignment: Alignment, spacing_mm: float
) -> NDArray[np.float64]:
    """Affine (4, 4) from the bundle's grid index to world mm that puts this brain at its place and size."""
    scale = np.clip(std_mm / np.asarray(alignment.std_mm), *_SCALE_LIMITS)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(scale * spacing_mm)
    affine[:3, 3] = centre_mm - affine[:3, :3] @ np.asarray(alignment.centre_voxel)
    return affine
