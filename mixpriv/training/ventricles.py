"""Wider and narrower ventricles: of all structures these differ most between people, and few maps show few sizes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

_STEP = 2
"""Voxels of a label map (1 mm) to one of the field."""
_SIGMA = 1.0  # of the field's voxels: walls move, and what is within about 5 mm of them
_FLAT = 0.15  # of the steepest slope: where it is less, as amid a ventricle, nothing moves


def towards(ventricles: NDArray[np.bool_]) -> Tensor:
    """Field (1, 3, D', H', W') that points into the nearest ventricle, about 1 long at its wall and 0 far from it."""
    padded = np.pad(ventricles, [(0, -n % _STEP) for n in ventricles.shape])
    d, h, w = (n // _STEP for n in padded.shape)
    share = padded.reshape(d, _STEP, h, _STEP, w, _STEP).mean((1, 3, 5), dtype=np.float32)
    slope = np.stack(np.gradient(ndimage.gaussian_filter(share, _SIGMA)))
    length = np.sqrt(np.square(slope).sum(0))
    return torch.from_numpy((slope / (length + _FLAT * max(float(length.max()), 1e-6)))[None].astype(np.float32))


def widen(positions: list[Tensor], field: Tensor, millimetres: float) -> list[Tensor]:
    """Positions (3 of (D, H, W)) in a label map of 1 mm from which ventricles come out wider, or narrower if negative.

    ``field``: of :func:`towards`.
    """
    halves = [(n - 1) / 2 for n in field.shape[2:]]
    # a field's voxel is a block of voxels of the map
    scaled = [
        (p - (_STEP - 1) / 2).div_(_STEP * max(half, 0.5)).sub_(1) for p, half in zip(positions, halves, strict=True)
    ]
    place = torch.stack(scaled[::-1], -1)[None]
    moves = F.grid_sample(field, place, padding_mode="zeros", align_corners=True)[0]
    return [position.add(move, alpha=millimetres) for position, move in zip(positions, moves, strict=True)]
