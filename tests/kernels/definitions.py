"""What every kernel computes, in NumPy: the kernels are compared with these."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter

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


def unmix(correction: Array, linear: Array | None, trust: float) -> Array:
    """In float64, the meaning."""
    classes, (d, h, w) = len(correction) // 8, correction.shape[1:]
    blocks = correction.astype(np.float64).reshape(classes, 2, 2, 2, d, h, w)
    logits = blocks.transpose(0, 4, 1, 5, 2, 6, 3).reshape(classes, 2 * d, 2 * h, 2 * w)
    if linear is not None:
        logits = logits + np.float64(np.float32(trust)) * linear
    shares = np.exp(logits - logits.max(axis=0))
    result: Array = shares / shares.sum(axis=0)
    return result


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


def restore_labels(
    probabilities: Array, matrix: Array, shape: tuple[int, int, int], mask: Array | None = None
) -> tuple[Array, Array]:
    """The labels in float64, and where they are beyond doubt: no second class within float32's error, no border.

    Where the mask is 0, all that a voxel's classes sum to belongs to class 0.
    """
    shares = probabilities.astype(np.float64)
    if mask is not None:
        outside = np.zeros_like(shares)
        outside[0] = shares.sum(axis=0)
        shares = np.where(mask != 0, shares, outside)
    values = np.stack([resample(p, matrix, shape)[0] for p in shares])
    beyond = outside_by(positions(matrix, shape), probabilities.shape[1:])
    best = np.sort(values, axis=0)
    clear = best[-1] - best[-2] > 1e-5 if len(values) > 1 else np.ones(shape, bool)
    labels = np.where(beyond <= 0, values.argmax(axis=0), 0)
    return labels, (clear | (beyond > 0)) & (np.abs(beyond) > 1e-9)


def control_shape(shape: Sequence[int], knots: float) -> tuple[int, ...]:
    """Fewest control points along each axis that reach every voxel of a grid."""
    return tuple(math.floor((n - 1) / knots) + 4 for n in shape)


def spline_matrix(count: int, points: int, knots: float) -> Array:
    """(count, points): the weight of every control point at every voxel along one axis; point i is at (i-1) knots."""
    distance = np.abs(np.arange(count)[:, None] / knots - (np.arange(points)[None] - 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance) ** 3 / 6
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def displacement(control: Array, knots: float, shape: tuple[int, ...]) -> Array:
    """(3, *shape) voxels: what a grid of control points (3, gD, gH, gW) says at every voxel, a cubic B-spline."""
    weights = [spline_matrix(n, g, knots) for n, g in zip(shape, control.shape[1:], strict=True)]
    return np.einsum("xi,yj,zk,cijk->cxyz", *weights, control.astype(np.float64), optimize=True)


def bent_positions(control: Array, knots: float, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """x + u(x), and where it is beyond doubt whether that lies in the grid: not on its border, but for u = 0."""
    u = displacement(control, knots, shape)
    where = np.indices(shape) + u
    last = np.array(shape).reshape(3, 1, 1, 1) - 1
    on_border = np.minimum(np.abs(where), np.abs(where - last)) < 1e-3
    return where, ~(on_border & (u != 0)).any(axis=0)


def warp(channels: Array, control: Array, knots: float, fill_background: bool = False) -> tuple[Array, Array]:
    """Trilinear at x + u(x), 0 where that is outside [0, n-1] on any axis; and where it is beyond doubt."""
    where, certain = bent_positions(control, knots, channels.shape[1:])
    moved = np.stack([map_coordinates(c.astype(np.float64), where, order=1, mode="constant") for c in channels])
    if fill_background:
        moved[0] += 1 - moved.sum(axis=0)
    return moved, certain


def spline_at(control: Array, axes: Sequence[Array]) -> Array:
    """The spline (3, D, H, W) at all combinations of positions, in distances of control points, the first at -1."""
    values = control.astype(np.float64)
    for position, points in zip(axes, control.shape[1:], strict=True):
        apart = np.abs(position.clip(0, points - 3)[:, None] - np.arange(-1, points - 1))
        weight = np.where(apart < 1, 2 / 3 - apart**2 + apart**3 / 2, np.maximum(2 - apart, 0) ** 3 / 6)
        values = np.tensordot(values, weight, axes=(1, 1))
    return values


def invert_warp(control: Array, knots: float, shape: Sequence[int]) -> tuple[Array, float]:
    """v(x) = -u(x + v(x)) at control points of v as dense as those of u, then three times as dense."""
    inverse: tuple[Array, float] | None = None
    for share, steps in ((1.0, 20), (1 / 3, 4)):
        own = knots * share
        at = [(np.arange(n) - 1) * own for n in control_shape(shape, own)]
        u = spline_at(control, [axis / knots for axis in at])
        v = np.zeros_like(u) if inverse is None else spline_at(inverse[0], [axis / inverse[1] for axis in at])
        for _ in range(steps):
            where = np.indices(u.shape[1:]) + v / own
            v = -np.stack([map_coordinates(c, where, order=1, mode="nearest") for c in u])
        inverse = np.stack([spline_filter(c, order=3, mode="mirror") for c in v]), own
    assert inverse is not None
    return inverse


def warp_labels(labels: Array, control: Array, knots: float) -> tuple[Array, Array]:
    """The label of the voxel nearest to x + u(x), ties upwards, 0 if there is none; and where that is beyond doubt."""
    where, _ = bent_positions(control, knots, labels.shape)
    index = np.floor(where + 0.5).astype(int)
    last = np.array(labels.shape).reshape(3, 1, 1, 1) - 1
    inside = ((index >= 0) & (index <= last)).all(axis=0)
    nearest = labels[tuple(np.clip(index, 0, last))]
    halfway = np.abs(where + 0.5 - np.rint(where + 0.5)).min(axis=0)
    return np.where(inside, nearest, 0), halfway > 1e-3


def mix_warped(
    target: Array,
    target_mask: Array,
    target_range: tuple[float, float],
    reference: Array | None,
    reference_mask: Array | None,
    weight: float,
    control: Array,
    knots: float,
) -> tuple[Array, Array]:
    """Mix, then warp, in float64; and where that is beyond doubt."""
    straight = mix(target, target_mask, target_range, reference, reference_mask, weight, np.float64)
    moved, certain = warp(straight[None], control, knots)
    return moved[0], certain
