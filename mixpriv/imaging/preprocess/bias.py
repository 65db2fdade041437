"""The brightness that varies slowly across a brain because the coils hear one side better: found and taken away.

After N3 (Sled, Zijdenbos and Evans, IEEE Transactions on Medical Imaging 1998): where such a field blurs the histogram,
it is the smooth field whose removal sharpens it. Here it is a polynomial of second degree, found inside the brain.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mixpriv.imaging.resample import Grid, between_grids

_SAMPLE_MM = 6.0
_RIM_MM = 4.0
_MIN_SAMPLES = 300
_COARSEST_MM = 4.0  # a larger voxel holds several tissues, more grey matter towards the rim
_DARKEST = 0.02  # of the brightest: what counts as brain has some signal
_SPREAD_PERCENT = (2.0, 98.0)
_WEAK, _STRONG = 0.2, 0.3
"""Spread of the field's logarithm in the brain: up to .18 in scans whose bias was corrected, .3 to .6 in raw ones."""

_BEYOND = 0.25  # of the spread: as much farther the field may go outside the brain where it was found
_ROUNDS = 25
_FASTER = 2.0  # than N3, which nears its end slowly
_SETTLED = 0.001  # mean change of the field's logarithm
_DIGITS = 5  # kept of what is found, so that other processors and thread counts, which round otherwise, find the same
_EVERY = 4  # voxels between those where the field is worked out; linear in between
_BINS, _PADDED = 200, 512
_BLUR_FWHM, _NOISE = 0.15, 0.01  # of the histogram's deconvolution, as in N3


@dataclass(frozen=True)
class Bias:
    """Logarithm of a field: a polynomial of world positions that stays between limits, times a strength."""

    coefficients: NDArray[np.float64] = field(repr=False)
    centre_mm: NDArray[np.float64] = field(repr=False)
    scale_mm: float
    limits: tuple[float, float]
    strength: float

    def gain(self, grid: Grid) -> NDArray[np.float32]:
        """What an image in a grid (D, H, W) along R, A, S is to be multiplied with, float32."""
        d, h, w = ((size - 1) // _EVERY + 2 for size in grid.shape)
        affine = grid.affine @ np.diag([_EVERY, _EVERY, _EVERY, 1.0])
        world = np.indices((d, h, w)).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
        logarithm = np.clip(_terms((world - self.centre_mm) / self.scale_mm) @ self.coefficients, *self.limits)
        coarse = np.exp(-self.strength * logarithm).astype(np.float32).reshape(d, h, w)
        return between_grids(coarse, Grid((d, h, w), affine), grid)


def find_bias(image: NDArray[np.float32], mask: NDArray[np.bool_] | NDArray[np.uint8], grid: Grid) -> Bias | None:
    """Find the field in an image (D, H, W) whose air is 0, inside a mask; None if it is too weak to matter.

    Between weak and strong it counts in part, so that no scan changes at once.
    """
    if grid.spacing_mm.max() > _COARSEST_MM:
        return None
    inside = _core(image, mask, grid)
    if np.count_nonzero(inside) < _MIN_SAMPLES:
        return None
    world = np.argwhere(inside) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    centre = world.mean(axis=0).round(_DIGITS)
    scale = round(float((world - centre).std()), _DIGITS)
    terms = _terms((world - centre) / scale)
    coefficients = _sharpest(np.log(image[inside].astype(np.float64)), terms).round(_DIGITS)
    spread = terms @ coefficients
    low, high = (round(float(end), _DIGITS) for end in np.percentile(spread, _SPREAD_PERCENT))
    strength = float(np.clip((high - low - _WEAK) / (_STRONG - _WEAK), 0, 1))
    if strength == 0:
        return None
    beyond = _BEYOND * (high - low)
    return Bias(coefficients, centre, scale, (low - beyond, high + beyond), strength)


def _core(image: NDArray[np.float32], mask: NDArray[np.bool_] | NDArray[np.uint8], grid: Grid) -> NDArray[np.bool_]:
    """Single voxels all over the brain, none at its rim: averages of several, and the rim, hold less white matter."""
    steps, rims = ([max(1, round(mm / spacing)) for spacing in grid.spacing_mm] for mm in (_SAMPLE_MM, _RIM_MM))
    sides = list(zip(steps, rims, mask.shape, strict=True))
    every = tuple(slice(rim, size - rim, step) for step, rim, size in sides)
    core = np.asarray(mask[every], dtype=bool)
    for axis, (step, rim, size) in enumerate(sides):
        for near in (slice(0, size - 2 * rim, step), slice(2 * rim, size, step)):
            core = core & (mask[(*every[:axis], near, *every[axis + 1 :])] != 0)
    core = core & (image[every] > _DARKEST * image[every].max(initial=0, where=core))
    inside = np.zeros(mask.shape, dtype=bool)
    inside[every] = core
    return inside


def _terms(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of positions (N, 3) the polynomial's terms (N, 9): x, y, z, their squares, xy, xz, yz."""
    x, y, z = position.T
    return np.stack([x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], axis=1)


def _sharpest(values: NDArray[np.float64], terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of the field without which a logarithm's histogram is sharpest."""
    centred = terms - terms.mean(axis=0)
    fit = np.linalg.pinv(centred)
    coefficients = np.zeros(terms.shape[1])
    for _ in range(_ROUNDS):
        flat = values - centred @ coefficients
        change = fit @ (flat - _sharpened(flat))
        coefficients += _FASTER * change
        if (centred @ change).std() < _SETTLED:
            break
    return coefficients


def _sharpened(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each value was, most likely, before a Gaussian blurred their histogram."""
    low, step = float(values.min()), float(np.ptp(values)) / (_BINS - 1)
    if step <= 0:
        return values
    position = (values - low) / step
    below = np.minimum(position.astype(np.intp), _BINS - 2)
    part = position - below
    counts = np.zeros(_PADDED)
    first = (_PADDED - _BINS) // 2
    counts[first : first + _BINS] = np.bincount(below, 1 - part, _BINS) + np.bincount(below + 1, part, _BINS)
    levels = low + step * (np.arange(_PADDED) - first)
    distance = step * np.minimum(np.arange(_PADDED), _PADDED - np.arange(_PADDED))
    blur = np.exp(-4 * np.log(2) * (distance / _BLUR_FWHM) ** 2)
    spectrum = np.fft.rfft(blur / blur.sum())
    sharp = np.fft.irfft(np.fft.rfft(counts) * np.conj(spectrum) / (np.abs(spectrum) ** 2 + _NOISE), _PADDED)
    sharp = np.maximum(sharp, 0)
    weight = np.fft.irfft(np.fft.rfft(sharp) * spectrum, _PADDED)
    total = np.fft.irfft(np.fft.rfft(sharp * levels) * spectrum, _PADDED)
    known = weight > 1e-6 * weight.max()
    expected = np.where(known, total / np.where(known, weight, 1), levels)[first : first + _BINS]
    return np.asarray((1 - part) * expected[below] + part * expected[below + 1])
