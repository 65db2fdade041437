"""Scans made worse on purpose, each kind by a severity of 0 to 1: to learn whether quality control notices.

A kind is a function of a scan, a severity and a generator of random numbers. What comes out depends on these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from mixpriv import kernels
from mixpriv.imaging.volume import Volume

Voxels = NDArray[np.float32]
Degradation = Callable[[Volume, float, np.random.Generator], Volume]


def degrade(scan: Volume, kind: str, severity: float, rng: np.random.Generator) -> Volume:
    """Make a scan worse.

    Parameters
    ----------
    scan : of one modality; what is 0 stays 0 where only intensities change: a stripped scan stays stripped
    kind : one of `KINDS`
    severity : 0 to 1

    Examples
    --------
    >>> voxels = np.asfortranarray(np.arange(16**3).reshape(16, 16, 16), np.float32)
    >>> scan = Volume(voxels, np.diag([1.0, 1.0, 1.0, 1.0]), None, "scan")
    >>> sorted(degrade(scan, "thick slices", 0.0, np.random.default_rng(0)).spacing_mm.tolist())
    [1.0, 1.0, 2.0]
    """
    return KINDS[kind](scan, severity, rng)


def _motion(scan: Volume, severity: float, rng: np.random.Generator) -> Volume:
    """Head movements: lines of k-space along one axis are those of the head in several poses (as TorchIO does).

    The pose in the middle of k-space, which has most of the image, is the scan's own: so its labels stay right.
    """
    voxels = np.ascontiguousarray(scan.voxels)
    axis, size = int(rng.integers(3)), scan.shape
    count = 2 + round(3 * severity)
    ends = np.sort(rng.choice(np.arange(1, size[axis]), count, replace=False))
    spectrum = fft.fftshift(fft.fft(voxels, axis=axis, workers=1), axes=axis)
    for begin, end in zip([0, *ends], [*ends, size[axis]], strict=True):
        if begin <= size[axis] // 2 < end:
            continue
        moved = kernels.resample(voxels, _pose(scan, 0.5 + 6 * severity, rng), size)
        lines = tuple(slice(int(begin), int(end)) if a == axis else slice(None) for a in range(3))
        spectrum[lines] = fft.fftshift(fft.fft(moved, axis=axis, workers=1), axes=axis)[lines]
    return _with_voxels(scan, np.abs(fft.ifft(fft.ifftshift(spectrum, axes=axis), axis=axis, workers=1)))


def _pose(scan: Volume, deviation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 4) from a voxel to where it is after a movement that deviates by degrees, and by as many millimetres."""
    linear = _rotation(np.deg2rad(rng.normal(0, deviation, 3)))
    middle = (np.array(scan.shape) - 1) / 2
    return np.column_stack([linear, middle + rng.normal(0, deviation, 3) / scan.spacing_mm - linear @ middle])


def _noise(scan: Volume, severity: float, rng: np.random.Generator) -> Volume:
    """Rician noise, its deviation 2 to 35 % of the brightest tissue."""
    deviation = (0.02 + 0.33 * severity) * _bright(scan)
    real, imaginary = (rng.standard_normal(scan.voxels.shape, dtype=np.float32) * deviation for _ in range(2))
    return _with_voxels(scan, np.hypot(scan.voxels + real, imaginary))


def _resolution(scan: Volume, severity: float, rng: np.random.Generator) -> Volume:
    """Larger voxels, 2 to 6 times along each axis."""
    return _averaged(scan, (2 + round(4 * severity),) * 3)


def _slices(scan: Volume, severity: float, rng: np.random.Generator) -> Volume:
    """Thick slices, 2 to 9 times along one axis."""
    factors = [1, 1, 1]
    factors[int(rng.integers(3))] = 2 + round(7 * severity)
    return _averaged(scan, (factors[0], factors[1], factors[2]))


def _bias(scan: Volume, severity: float, rng: np.random.Generator) -> Volume:
    """Uneven brightness: a smooth field whose logarithm deviates by .1 to .8."""
    knots = rng.standard_normal((1, 4, 4, 4))[0]
    zoom = [n / 4 for n in scan.voxels.shape]
    smooth = ndimage.zoom(knots, zoom, order=3, mode="nearest", grid_mode=True)
    smooth = smooth[tuple(slice(n) for n in scan.voxels.shape)]
    smooth = (smooth - smooth.mean()) / smooth.std()
    return _with_voxels(scan, scan.voxels * np.exp((0.1 + 0.7 * severity) * smooth))


def _cut(scan: Volume, severity: float, rng: np.random.Generator) -> Volume:
    """A field of view that misses 5 to 60 % of what is there, at one side."""
    axis, at_end = int(rng.integers(3)), bool(rng.integers(2))
    others = tuple(a for a in range(3) if a != axis)
    profile = np.cumsum((scan.voxels > 0.1 * _bright(scan)).sum(axis=others))
    lost = (0.05 + 0.55 * severity) * profile[-1]
    size = scan.voxels.shape[axis]
    first = 0 if at_end else int(np.searchsorted(profile, lost))
    last = int(np.searchsorted(profile, profile[-1] - lost)) if at_end else size
    first, last = min(first, size - 8), max(last, 8)
    box = tuple(slice(first, last) if a == axis else slice(None) for a in range(3))
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, axis] * first
    return Volume(np.asfortranarray(scan.voxels[box]), affine, None, scan.name)


def _contrast(scan: Volume, severity: float, rng: np.random.Generator) -> Volume:
    """Another contrast: a gamma of 1.3 to 4, or its inverse."""
    gamma = 1.3 * 3**severity
    if rng.random() < 0.5:
        gamma = 1 / gamma
    bright = _bright(scan)
    return _with_voxels(scan, (np.maximum(scan.voxels, 0) / bright) ** gamma * bright)


def _turned(scan: Volume, severity: float, rng: np.random.Generator) -> Volume:
    """A header that is wrong about how the head lies, by 5 to 90 degrees about some axis."""
    axis = rng.standard_normal(3)
    angle = np.deg2rad(5 + 85 * severity)
    turn = np.eye(4)
    turn[:3, :3] = _about(axis / np.linalg.norm(axis), angle)
    middle = scan.affine[:3, :3] @ ((np.array(scan.shape) - 1) / 2) + scan.affine[:3, 3]
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    return Volume(scan.voxels, turn @ scan.affine, None, scan.name)


KINDS: Mapping[str, Degradation] = {
    "motion": _motion,
    "noise": _noise,
    "low resolution": _resolution,
    "thick slices": _slices,
    "bias": _bias,
    "cut off": _cut,
    "contrast": _contrast,
    "turned": _turned,
}
"""What can be wrong with a scan."""


def _bright(scan: Volume) -> float:
    """The brightest tissue, robustly."""
    inside = scan.voxels[::3, ::3, ::3]
    inside = inside[inside > 0.05 * float(inside.max())]
    return float(np.percentile(inside, 95))


def _with_voxels(scan: Volume, voxels: NDArray[Any]) -> Volume:
    """The scan with other intensities where it had any."""
    kept = np.where(scan.voxels != 0, voxels, 0)
    return Volume(np.asfortranarray(kept, np.float32), scan.affine, None, scan.name)


def _averaged(scan: Volume, factors: tuple[int, int, int]) -> Volume:
    image = kernels.block_mean(np.ascontiguousarray(scan.voxels), factors)
    affine = scan.affine.copy()
    for axis, factor in enumerate(factors):
        affine[:3, 3] += affine[:3, axis] * (factor - 1) / 2
        affine[:3, axis] *= factor
    return Volume(np.asfortranarray(image), affine, None, scan.name)


def _about(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """(3, 3) rotation about an axis of length 1 (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation whose axis is the vector of angles, rad."""
    length = float(np.linalg.norm(angles))
    return _about(angles / length, length) if length else np.eye(3)
