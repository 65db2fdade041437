"""Smooth random fields, what references and warps are made of."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mixpriv import kernels
from mixpriv.protection.keystream import Keystream

Shape = tuple[int, int, int]


def band_pass(field: NDArray[np.float32], sigmas: tuple[float, ...]) -> NDArray[np.float32]:
    """Zero-mean, unit-variance field: Gaussian low-pass at ``sigmas[0]`` voxels, less the one at ``sigmas[1]``.

    Examples
    --------
    >>> field = band_pass(Keystream(bytes(32)).normal((8, 8, 8)), (1.0,))
    >>> abs(round(float(field.mean()), 3)), round(float(field.std()), 3)
    (0.0, 1.0)
    """
    spectrum = fft.rfftn(field)
    gain = _gaussian(field.shape, sigmas[0])
    for sigma in sigmas[1:]:
        gain -= _gaussian(field.shape, sigma)
    spectrum *= gain
    out = fft.irfftn(spectrum, s=field.shape)
    out -= out.mean()
    return np.asarray(out / max(float(out.std()), 1e-12), dtype=np.float32)


def _gaussian(shape: tuple[int, ...], sigma: float) -> NDArray[np.float32]:
    """What a Gaussian of ``sigma`` voxels leaves of each coefficient of `scipy.fft.rfftn`."""
    frequencies = [*(fft.fftfreq(n) for n in shape[:-1]), fft.rfftfreq(shape[-1])]
    along = [np.exp(-2 * (np.pi * sigma * f) ** 2).astype(np.float32) for f in frequencies]
    return np.asarray(functools.reduce(np.multiply.outer, along))


def smooth_field(stream: Keystream, shape: Shape, sigma: float) -> NDArray[np.float32]:
    """A unit-variance field of smoothness ``sigma`` voxels, made at a quarter of the resolution (it is smooth)."""
    coarse = tuple(n // 4 + 2 for n in shape)
    field = band_pass(stream.normal(coarse), (sigma / 4,))
    return resample_evenly(field, 0.25, 0.5, shape)


def resample_evenly(field: NDArray[np.float32], step: float, first: float, shape: Shape) -> NDArray[np.float32]:
    """Sample a field, linearly, at ``first + step * index`` along each axis; up to half a voxel beyond it goes on."""
    return kernels.resample(field, np.hstack([step * np.eye(3), np.full((3, 1), first)]), shape)
