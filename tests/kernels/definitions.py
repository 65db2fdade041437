"""What every kernel computes, in NumPy: the kernels are compared with these."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from mixpriv import _native

Array = NDArray[Any]

ISAS = [
    pytest.param(isa, marks=pytest.mark.skipif(isa not in _native.available_isas(), reason=f"no {isa} here"))
    for isa in ("baseline", "avx2", "avx512")
]
THREADS = (1, 2, 3, 7)


@contextmanager
def forced(isa: str) -> Iterator[None]:
    """Run the kernels of one instruction set."""
    before = os.environ.get("MIXPRIV_ISA")
    os.environ["MIXPRIV_ISA"] = isa
    try:
        assert _native.isa() == isa
        yield
    finally:
        del os.environ["MIXPRIV_ISA"]
        if before is not None:
            os.environ["MIXPRIV_ISA"] = before


def robust_range(image: Array, mask: Array | None, lower: float, upper: float) -> tuple[float, float]:
    voxels = image.ravel() if mask is None else image[mask != 0]
    lo, hi = np.percentile(voxels.astype(np.float64), (lower, upper))
    return float(lo), float(hi)


def mix(
    target: Array,
    target_mask: Array,
    target_range: tuple[float, float],
    reference: Array | None,
    reference_mask: Array | None,
    weight: float,
    dtype: type[np.float32 | np.float64] = np.float32,
) -> Array:
    """In float32 the exact operations and their order, in float64 the meaning."""
    lo, hi, a, one = np.array([*target_range, weight, 1.0]).astype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        t = np.clip((target.astype(dtype) - lo) * (one / (hi - lo)), 0, 1)
    total: Array = a * np.where((target_mask != 0) & ~np.isnan(t), t, dtype(0))
    if reference is not None and reference_mask is not None:
        r = np.clip(reference.astype(dtype), 0, 1)
        total = total + (one - a) * np.where((reference_mask != 0) & ~np.isnan(r), r, dtype(0))
    return total if dtype is np.float64 else total.astype(np.float16)


def unpack(
    answer: Array, reference_labels: Array, weight: float, dtype: type[np.float32 | np.float64] = np.float32
) -> Array:
    """In float32 the exact operations and their order, in float64 the meaning."""
    a, one, full = np.array([weight, 1.0, 255.0]).astype(dtype)
    classes = len(answer) + 1
    background = np.maximum(0, 255 - answer.astype(np.int64).sum(axis=0, keepdims=True))
    probabilities = np.concatenate([background, answer]).astype(dtype) / full
    one_hot = (reference_labels == np.arange(classes).reshape(-1, 1, 1, 1)).astype(dtype)
    with np.errstate(over="ignore"):
        linear = np.clip((probabilities - (one - a) * one_hot) / a, -1, 2)
    return np.concatenate([linear, one_hot, np.full_like(linear[:1], a)])


def positions(matrix: Array, shape: tuple[int, int, int]) -> Array:
    """Input index (3, *shape) of every output voxel."""
    where: Array = np.tensordot(matrix[:, :3], np.indices(shape).astype(np.float64), 1)
    where += matrix[:, 3].reshape(3, 1, 1, 1)
    return where


def outside_by(where: Array, size: tuple[int, ...]) -> Array:
    """How far, in voxels, a position lies beyond half a voxel around the input; negative inside."""
    hi = np.array(size, np.float64).reshape(3, 1, 1, 1) - 0.5
    beyond: Array = np.maximum(-0.5 - where, where - hi).max(axis=0)
    return beyond


def resample(image: Array, matrix: Array, shape: tuple[int, int, int]) -> tuple[Array, Array]:
    """The result in float64, and where it is beyond doubt: not on the border between inside and outside."""
    where = positions(matrix, shape)
    beyond = outside_by(where, image.shape)
    values = map_coordinates(image.astype(np.float64), where, order=1, mode="nearest")
    return np.where(beyond <= 0, values, 0.0), np.abs(beyond) > 1e-9


def restore_labels(probabilities: Array, matrix: Array, shape: tuple[int, int, int]) -> tuple[Array, Array]:
    """The labels in float64, and where they are beyond doubt: no second class within float32's error, no border."""
    values = np.stack([resample(p, matrix, shape)[0] for p in probabilities])
    beyond = outside_by(positions(matrix, shape), probabilities.shape[1:])
    best = np.sort(values, axis=0)
    clear = best[-1] - best[-2] > 1e-5 if len(values) > 1 else np.ones(shape, bool)
    labels = np.where(beyond <= 0, values.argmax(axis=0), 0)
    return labels, (clear | (beyond > 0)) & (np.abs(beyond) > 1e-9)
