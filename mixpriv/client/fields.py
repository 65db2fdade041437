"""Smooth random fields, what references and warps are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mixpriv import kernels
from mixpriv.client.random import Stream

Shape = tuple[int, int, int]


def band_pass(field: NDArray[np.float32], sigmas: tuple[float, ...]) -> NDArray[np.float32]:
    """Zero-mean, unit-variance field: Gaussian low-pass at ``sigmas[0]`` voxels, less the one at ``sigmas[1]``."""
    spectrum = fft.rfftn(field)
    squared = (
        np.square(fft.fftfreq(field.shape[0]))[:, None, None]
        + np.square(fft.fftfreq(field.shape[1]))[None, :, None]
        + np.square(fft.rfftfreq(field.shape[2]))[None, None, :]
    ).astype(np.float32)
    gain = np.exp(-2 * np.float32(np.pi**2 * sigmas[0] ** 2) * squared)
    for sigma in sigmas[1:]:
        gain -= np.exp(-2 * np.float32(np.pi**2 * sigma**2) * squared)
    out = fft.irfftn(spectrum * gain, s=field.shape)
    out -= out.mean()
    return np.asarray(out / max(float(out.std()), 1e-12), dtype=np.float32)


def smooth_field(stream: Stream, shape: Shape, sigma: float) -> NDArray[np.float32]:
    """A unit-variance field of smoothness ``sigma`` voxels, made at a quarter of the resolution (it is smooth)."""
    coarse = tuple(n // 4 + 2 for n in shape)
    field = band_pass(stream.normal(coarse), (sigma / 4,))
    return resample_evenly(field, 0.25, 0.5, shape)


def resample_evenly(field: NDArray[np.float32], step: float, first: float, shape: Shape) -> NDArray[np.float32]:
    """Sample a field, linearly, at ``first + step * index`` along each axis; up to half a voxel beyond it goes on."""
    return kernels.resample(field, np.hstack([step * np.eye(3), np.full((3, 1), first)]), shape)
