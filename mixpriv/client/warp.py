"""A keyed smooth warp and the way back: the proxy of Kim et al. 2020 (arXiv 2011.12835), to compare with.

The server sees the anatomy bent; the client, who knows the warp, bends the answer back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.client.fields import smooth_field
from mixpriv.client.random import Stream
from mixpriv.errors import InputError

SIGMA_MM = 16.0
"""Smoothness of the displacement: much rougher fields of the same length would fold."""

MAX_MEAN_MM = 8.0
_INVERSE_STEPS = 20


@dataclass(frozen=True)
class Warp:
    """Displacements (3, D, H, W) float32 in voxels: what is sent at x is the image at ``x + forward``; and back."""

    forward: NDArray[np.float32] = field(repr=False)
    inverse: NDArray[np.float32] = field(repr=False)


def draw_warp(stream: Stream, shape: tuple[int, int, int], mean_mm: float, spacing_mm: float) -> Warp:
    """Draw a warp whose displacements have the given mean length. Longer ones than 8 mm fold: they have no way back.

    Parameters
    ----------
    shape : of the bundle's grid
    mean_mm : mean length of the displacement, at most 8

    Raises
    ------
    InputError
        the length is not above 0 and at most 8 mm.
    """
    if not 0 < mean_mm <= MAX_MEAN_MM:
        raise InputError(f"warp: expected a mean length above 0 and at most {MAX_MEAN_MM:g} mm, got {mean_mm}")
    parts = [smooth_field(stream, shape, SIGMA_MM / spacing_mm) for _ in range(3)]
    forward = np.stack(parts)
    forward *= np.float32(mean_mm / spacing_mm / np.sqrt((forward**2).sum(0)).mean())
    return Warp(forward, invert(forward))


def invert(forward: NDArray[np.float32]) -> NDArray[np.float32]:
    """Displacement that undoes another, by fixed-point iteration: ``inverse(x) = -forward(x + inverse(x))``."""
    inverse = -forward
    for _ in range(_INVERSE_STEPS):
        inverse = -sample(forward, inverse, edge=True)
    return inverse


def sample(
    channels: NDArray[np.float32], displacement: NDArray[np.float32], *, edge: bool = False
) -> NDArray[np.float32]:
    """Channels (N, D, H, W) at ``x + displacement``, linear; beyond the grid 0, or the edge's value."""
    points = displacement + _index(channels.shape[1:])
    mode = "nearest" if edge else "constant"
    moved = [ndimage.map_coordinates(channel, points, order=1, mode=mode) for channel in channels]
    return np.asarray(moved, dtype=np.float32)


def _index(shape: Sequence[int]) -> NDArray[np.float32]:
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))


def apply_warp(image: NDArray[np.float16], warp: Warp) -> NDArray[np.float16]:
    """What is sent in place of an image (D, H, W)."""
    return np.asarray(sample(image[None].astype(np.float32), warp.forward)[0], dtype=np.float16)


def undo_warp(probabilities: NDArray[np.float32], warp: Warp) -> NDArray[np.float32]:
    """Class probabilities (C, D, H, W) of the image from those of what was sent; beyond the grid all is background."""
    back = sample(probabilities, warp.inverse)
    back[0] += 1 - back.sum(0)
    return back
