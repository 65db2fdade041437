"""Where the left half of a brain ends and the right one begins, found in labels that do not tell them apart.

First a plane: classes that a brain has on either side lie as pairs, and the plane halves the way from the left of a
pair to its right. Then a surface near it: the fissure between the halves is rarely flat, and in it lies nothing that
has a side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_EVERY = 4
"""Of the voxels one in so many is enough for the plane."""

_ROUNDS = 8
_TOUCHING = 6.0
"""Fisher's criterion of a pair whose halves touch: where they meet follows from the plane, so it says nothing of it."""

_UPRIGHT = 5.0
"""How much an upright plane through the middle counts beside the pairs: little where there are any."""

_FLOOR = 0.05
"""How much what has a side counts beside what has none: where there is no fissure the surface stays."""

_LOOKS_MM = ((9.0, 12.0), (5.0, 8.0), (3.0, 6.0), (2.0, 4.0))
"""Look after look: how far from the surface found so far the fissure is sought, and how much the surface is smoothed.

Both are standard deviations, mm. Measured on 21 scans and 15 label maps whose sides are known, straight and tilted."""

_REACH = 2.0
"""Standard deviations that are looked at."""


def midsurface(sided: NDArray[np.uint8], spacing_mm: float) -> NDArray[np.float32]:
    """Find the surface between the halves of a brain in R, A, S axes.

    Parameters
    ----------
    sided : (D, H, W), the number of a class that a brain has on either side, 0 for all else
    spacing_mm : of the voxels

    Returns
    -------
    surface : (H, W) float32, the index along R at which the right half begins

    Examples
    --------
    >>> sided = np.zeros((20, 8, 8), np.uint8)
    >>> sided[2:6], sided[12:16] = 1, 1
    >>> print(midsurface(sided, 1.5).mean().round(1))
    8.4
    """
    normal, offset = _plane(sided)
    axes = np.ogrid[tuple(map(slice, sided.shape[1:]))]
    surface = np.asarray((offset - normal[1] * axes[0] - normal[2] * axes[1]) / normal[0], np.float32)
    free = np.pad(np.where(sided == 0, np.float32(1), np.float32(_FLOOR)), ((1, 1), (0, 0), (0, 0)), mode="edge")
    for near_mm, smooth_mm in _LOOKS_MM:
        surface = surface + _towards_the_fissure(free, surface, near_mm / spacing_mm, smooth_mm / spacing_mm)
    return surface


def _plane(sided: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float]:
    """Normal (towards R) and offset of the plane that halves the pairs; upright through the middle without any."""
    found = np.flatnonzero(sided)[::_EVERY]
    normal, offset = np.array([1.0, 0.0, 0.0]), (sided.shape[0] - 1) / 2
    if not len(found):
        return normal, offset
    where, of = np.stack(np.unravel_index(found, sided.shape)).astype(np.float64), sided.ravel()[found].astype(np.intp)
    offset = float(where[0].mean())
    for _ in range(_ROUNDS):
        right = normal @ where > offset
        pairs = of + 256 * right
        count = np.bincount(pairs, minlength=512).astype(np.float64)
        sums = np.stack([np.bincount(pairs, axis, 512) for axis in where])
        squares = np.bincount(pairs, (normal @ where) ** 2, 512)
        both = np.flatnonzero((count[:256] > 0) & (count[256:] > 0))
        if not len(both):
            break
        left, right_ = sums[:, both] / count[both], sums[:, both + 256] / count[both + 256]
        apart = right_ - left
        along = np.stack([normal @ left, normal @ right_])
        spread = np.stack([squares[both] / count[both], squares[both + 256] / count[both + 256]]) - along**2
        # a pair with a gap between its halves knows best where the middle is
        fisher = (normal @ apart) ** 2 / (spread.sum(axis=0) + 1)
        weight = np.append(np.maximum(fisher - _TOUCHING, 0), _UPRIGHT)
        directions = np.column_stack([apart / np.linalg.norm(apart, axis=0), (1.0, 0.0, 0.0)])
        middles = np.column_stack([(left + right_) / 2, where.mean(axis=1)])
        normal = directions @ weight
        normal /= np.linalg.norm(normal)
        offset = float(np.average(normal @ middles, weights=weight))
    return normal, offset


def _towards_the_fissure(
    free: NDArray[np.float32], surface: NDArray[np.float32], near: float, smooth: float
) -> NDArray[np.float32]:
    """How far along R (H, W) the surface is to move: to the middle of what is free of sided classes around it."""
    steps = np.arange(-round(_REACH * near), round(_REACH * near) + 1)
    start = np.floor(surface).astype(np.intp)
    rows = np.clip(start + 1 + steps[:, None, None], 0, len(free) - 1)
    distance = steps[:, None, None] - (surface - start)
    weight = np.take_along_axis(free, rows, axis=0) * np.exp(-0.5 * (distance / near) ** 2).astype(np.float32)
    total, moment = weight.sum(axis=0), (weight * distance).sum(axis=0)
    blurred = [ndimage.gaussian_filter(part, smooth, mode="nearest") for part in (moment, total)]
    return np.asarray(blurred[0] / np.maximum(blurred[1], 1e-6), np.float32)
