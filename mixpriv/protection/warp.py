"""A keyed smooth warp and its inverse: the method of Kim et al. 2020 (arXiv 2011.12835), and a part of `shielded`.

The server sees the anatomy warped; the client, who knows the warp, unwarps the answer. A warp is a coarse grid of
control points of a cubic B-spline, as `mixpriv.kernels.warp` takes it; so is its inverse, which is smooth too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.bundle_fields import MOST_WARP_MM
from mixpriv.errors import InputError
from mixpriv.kernels import ControlGrid
from mixpriv.protection.fields import band_pass
from mixpriv.protection.keystream import Keystream

SIGMA_MM = 16.0
"""Smoothness of the displacements: much rougher fields of the same length would fold."""

MAX_MEAN_MM = MOST_WARP_MM
_CONTROL_SPACING_MM = 8.0


@dataclass(frozen=True)
class Warp:
    """What is sent at x is the image at ``x + forward(x)``; ``inverse`` undoes it.

    Both are control points and their spacing, in voxels. The inverse is found when it is first asked for: that takes
    longer than to draw the warp.
    """

    forward: ControlGrid = field(repr=False)
    shape: tuple[int, int, int]

    @cached_property
    def inverse(self) -> ControlGrid:
        """The inverse, on the same grid of ``shape``."""
        return kernels.invert_warp(*self.forward, self.shape, threads=1)  # mostly beside a network, which takes all


def draw_warp(stream: Keystream, shape: tuple[int, int, int], mean_mm: float, spacing_mm: float) -> Warp:
    """Draw a warp whose displacements have the given mean length. Longer ones than 8 mm fold: they have no inverse.

    Parameters
    ----------
    shape : of the bundle's grid
    mean_mm : mean length of the displacement, at most 8

    Raises
    ------
    InputError
        the length is not above 0 and at most 8 mm.

    Examples
    --------
    >>> warp = draw_warp(Keystream(bytes(32)), (32, 32, 32), 4.0, 2.0)
    >>> lengths = np.linalg.norm(displacement(warp.forward, warp.shape), axis=0)
    >>> round(float(lengths.mean()), 1)  # voxels of 2 mm
    2.0
    """
    if not 0 < mean_mm <= MAX_MEAN_MM:
        raise InputError(f"warp: expected a mean length above 0 and at most {MAX_MEAN_MM:g} mm, got {mean_mm}")
    control, control_spacing = smooth_displacement(stream, shape, spacing_mm)
    control *= np.float32(mean_mm / spacing_mm / _mean_length(control, control_spacing, shape))
    return Warp((control, control_spacing), shape)


def smooth_displacement(stream: Keystream, shape: tuple[int, int, int], spacing_mm: float) -> ControlGrid:
    """Draw displacements whose components have a standard deviation of about one voxel: control points, voxels.

    Parameters
    ----------
    shape : of the grid that is to be warped
    spacing_mm : its voxels' size; the displacements vary over `SIGMA_MM`
    """
    control_spacing = _CONTROL_SPACING_MM / spacing_mm
    # the spline between the points smooths by their spacing / sqrt(3) once more
    sigma = math.sqrt(SIGMA_MM**2 - _CONTROL_SPACING_MM**2 / 3) / _CONTROL_SPACING_MM
    control = np.stack([band_pass(stream.normal(_points(shape, control_spacing)), (sigma,)) for _ in range(3)])
    control *= np.float32((SIGMA_MM / (sigma * _CONTROL_SPACING_MM)) ** 1.5)  # which lessens the variance
    return control, control_spacing


def _points(shape: tuple[int, int, int], control_spacing: float) -> tuple[int, int, int]:
    """How many control points a grid needs along each axis."""
    d, h, w = (math.floor((n - 1) / control_spacing) + 4 for n in shape)
    return d, h, w


def displacement(warp: ControlGrid, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Displacements (3, D, H, W) in voxels at every voxel of a grid."""
    control, control_spacing = warp
    return _evaluate(control, [np.arange(n) / control_spacing for n in shape])


def _evaluate(control: NDArray[np.float32], axes: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """The spline (3, D, H, W) at all combinations of positions along the axes, in distances of control points."""
    values = control
    for position, points in zip(axes, control.shape[1:], strict=True):
        inner = position.clip(0, points - 3)  # beyond them fewer than four points count: what is there goes on
        values = np.tensordot(values, _spline(inner, points), axes=(1, 1))
    return np.asarray(values, dtype=np.float32)


def _spline(position: NDArray[np.float64], points: int) -> NDArray[np.float32]:
    """Weights (n, points) of a cubic B-spline's control points, the first at -1, at positions in their distances."""
    distance = np.abs(position[:, None] - np.arange(-1, points - 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def _mean_length(control: NDArray[np.float32], control_spacing: float, shape: tuple[int, int, int]) -> float:
    """Mean over all voxels, from the middles of half as many along each axis: it is smooth."""
    halves = [-(-n // 2) for n in shape]
    middles = [((np.arange(m) + 0.5) * n / m - 0.5) / control_spacing for n, m in zip(shape, halves, strict=True)]
    return float(np.sqrt((_evaluate(control, middles) ** 2).sum(0)).mean(dtype=np.float64))


def undo_warp(probabilities: NDArray[np.float32], warp: Warp) -> NDArray[np.float32]:
    """Class probabilities (C, D, H, W) of the image from those of what was sent; beyond the grid all is background."""
    return kernels.warp(probabilities, *warp.inverse, fill_background=True)
