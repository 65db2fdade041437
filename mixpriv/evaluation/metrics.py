"""What one segmentation is worth against another, by MONAI."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.evaluation.method_id import MethodId


@dataclass(frozen=True)
class Score:
    """One class of one case with one method.

    ``hd95_mm``: 95 % Hausdorff distance, NaN where one is empty. ``volume_similarity``: 1 - |V - V'| / (V + V').
    """

    method: MethodId
    subject: str
    case: str
    label: int
    dice: float
    hd95_mm: float
    volume_similarity: float


def dice(ours: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks of one shape (MONAI); 1 if both are empty."""
    if not (ours.any() or truth.any()):
        return 1.0
    box = _box(ours, truth)
    one, other = _tensor(ours[box]), _tensor(truth[box])
    return float(compute_dice(one, other, include_background=True, ignore_empty=False))


def hd95_mm(ours: NDArray[np.bool_], truth: NDArray[np.bool_], spacing_mm: Iterable[float]) -> float:
    """95 % Hausdorff distance of two masks' surfaces (MONAI), mm; NaN if a mask is empty."""
    if not (ours.any() and truth.any()):
        return float("nan")
    box = _box(ours, truth)
    one, other = _tensor(ours[box]), _tensor(truth[box])
    spacing = [float(mm) for mm in spacing_mm]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI calls what it has itself deprecated
        return float(compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=spacing))


def volume_similarity(ours: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """1 - |V - V'| / (V + V') of two masks; 1 if both are empty (Taha and Hanbury, BMC Medical Imaging 2015)."""
    one, other = int(np.count_nonzero(ours)), int(np.count_nonzero(truth))
    return 1.0 - abs(one - other) / max(one + other, 1)


def _box(ours: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Where anything is: most of a scan is empty, and both metrics take their time with it."""
    box: tuple[slice, ...] = ndimage.find_objects((ours | truth).astype(np.uint8))[0]
    return box


def _tensor(mask: NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(mask))[None, None]
