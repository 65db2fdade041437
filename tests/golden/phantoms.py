"""Scans of nobody, by arithmetic that is exact on every machine: no random numbers, no sine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPACING_MM = 6.0
SHAPE = (32, 38, 32)
AFFINE = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])

SEMI_AXES_MM = np.array([68.0, 85.0, 65.0])
SHELLS = ((1.0, 1), (0.8, 2), (0.64, 4), (0.16, 3), (0.04, 1))
"""Share of the squared semi-axes and the label inside it, from the rim inwards."""

LEVELS = np.array([0, 225, 450, 675, 900])
"""Intensity of each label: background, CSF, grey matter, nuclei, white matter."""


def labels_at(position_mm: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Labels (...) uint8 of a brain at positions (..., 3) from its middle, a little off symmetry."""
    scaled = position_mm / SEMI_AXES_MM
    radius = (scaled * scaled).sum(axis=-1) + 0.0625 * scaled[..., 0] - 0.03125 * scaled[..., 1]
    labels = np.zeros(radius.shape, np.uint8)
    for share, label in SHELLS:
        labels[radius < share] = label
    return labels


def grid_positions(shape: tuple[int, ...], spacing_mm: float) -> NDArray[np.float64]:
    """Positions (D, H, W, 3) of a grid's voxels from its middle, mm."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return (index - (np.array(shape) - 1) / 2) * spacing_mm


def head(person: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A skull-stripped scan and its labels, both of `SHAPE`; each person has other structure, some centimetres wide."""
    labels = labels_at(grid_positions(SHAPE, SPACING_MM))
    random = _noise(labels.size * 3, person)
    voxels = LEVELS[labels] + (random[: labels.size].reshape(SHAPE) >> 2) - 32
    index = np.indices(SHAPE)
    for wave in range(8):
        i, j, k, start = (int(n) for n in random[labels.size + 4 * wave :][:4])
        phase = (i * index[0] + j * index[1] + k * index[2]) // 4 + start
        voxels += np.abs(phase % 256 - 128) - 64
    return np.where(labels > 0, np.maximum(voxels, 120), 0).astype(np.int16), labels


def _noise(count: int, seed: int) -> NDArray[np.int64]:
    """Whole numbers (count,) of 0 to 255, mixed by multiplication (as in MurmurHash3)."""
    value = np.arange(count, dtype=np.uint64) + np.uint64(1 + seed * 2**32)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ (value >> np.uint64(33))) * np.uint64(factor)
    return (value >> np.uint64(56)).astype(np.int64)
