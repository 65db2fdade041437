"""Real heads with brain masks, beside the synthetic ones, for the brain extractor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mixpriv.errors import InputError
from mixpriv.imaging.alignment import mask_moments_mm
from mixpriv.training.data.synth import positions, random_affine, resolution, smooth_noise
from mixpriv.training.specs import Augmentation

_MASK = "_mask.nii.gz"


@dataclass(frozen=True)
class RealHead:
    """Image and mask, (2, R, A, S) float32 in [0, 1]; ``to_index``: (4, 4) from mm to the index; the brain's middle."""

    both: Tensor
    to_index: NDArray[np.float64]
    centre_mm: NDArray[np.float64]


def load_real_heads(folder: Path) -> Iterator[RealHead]:
    """Scans NAME.nii.gz of a folder with their brain masks NAME_mask.nii.gz, in the order of their names.

    Raises
    ------
    InputError
        there is none.
    """
    masks = sorted(folder.glob(f"*{_MASK}"))
    if not masks:
        raise InputError(f"{folder}: expected scans NAME.nii.gz with masks NAME{_MASK}, found none")
    for path in masks:
        scan, mask = (
            nib.as_closest_canonical(nib.load(p)) for p in (path.with_name(path.name.replace("_mask", "")), path)
        )
        image, inside = (np.squeeze(np.asarray(i.dataobj, dtype=np.float32)) for i in (scan, mask))
        low, high = (float(q) for q in np.percentile(image[::3, ::3, ::3], (0.5, 99.8)))
        both = np.stack([np.clip((image - low) / max(high - low, 1e-6), 0, 1), inside > 0]).astype(np.float32)
        centre, _ = mask_moments_mm(inside > 0, scan.affine)
        yield RealHead(torch.from_numpy(both), np.linalg.inv(scan.affine), centre)


def sample_real_head(
    head: RealHead,
    shift_mm: NDArray[np.float64],
    shape: tuple[int, ...],
    spacing_mm: float,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Image (D, H, W) float32 and mask (D, H, W) bool around a place beside the brain's middle; deformed, repainted."""
    linear = random_affine(rng, augmentation) * spacing_mm
    corner = head.centre_mm + shift_mm - linear @ (np.array(shape) - 1) / 2
    matrix = head.to_index[:3, :3] @ np.column_stack([linear, corner])
    matrix[:, 3] += head.to_index[:3, 3]
    where = positions(matrix, shape, rng, augmentation.elastic_voxels)
    scaled = [(2 * p + 1) / n - 1 for p, n in zip(where, head.both.shape[1:], strict=True)]
    place = torch.stack(scaled[::-1], -1)[None]
    image, mask = F.grid_sample(head.both[None], place, padding_mode="zeros", align_corners=False)[0]
    image = resolution(image, rng, 4.0) if rng.random() < 0.4 else image
    image = image.clamp(min=0).pow(float(rng.uniform(0.6, 1.6)))
    image = image * torch.exp(smooth_noise(rng, shape, 48)[0] * float(rng.uniform(0, 0.4)))
    noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    return image.add(noise, alpha=float(rng.uniform(0, 0.04))).clamp(min=0), mask > 0.5
