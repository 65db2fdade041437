"""Synthetic scans and a synthetic reference model: nested ellipsoids with T1-like intensities, made by code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.imaging.volume import Volume
from mixpriv.protection.reference import ReferenceModel

SEMI_AXES_MM = np.array([68.0, 85.0, 65.0])
"""Of the brain: about 1570 ml."""

SHELLS = ((1.0, 5), (0.95, 2), (0.8, 1), (0.4, 3), (0.2, 4))
"""Share of the semi-axes and the label inside it, from the rim inwards."""

LEVELS = np.array([0, 900, 600, 750, 300, 150], np.float32)
"""Intensity of each label, as the toy segmenter expects them."""


def labels_at(world_mm: NDArray[np.float64], centre_mm: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Labels (...) uint8 of a phantom brain at world positions (..., 3), a little off symmetry."""
    position = (world_mm - centre_mm) / SEMI_AXES_MM
    radius = np.sqrt((position**2).sum(axis=-1)) + 0.05 * position[..., 0] - 0.03 * position[..., 1]
    labels = np.zeros(radius.shape, np.uint8)
    for share, label in SHELLS:
        labels[radius < share] = label
    return labels


def brain_scan(
    shape: tuple[int, int, int] = (60, 72, 60),
    affine: NDArray[np.float64] | None = None,
    *,
    noise: float = 10.0,
    seed: int = 0,
    person: int = 0,
) -> tuple[Volume, NDArray[np.uint8]]:
    """A skull-stripped phantom scan and its true labels; the brain sits in the middle of the field of view.

    All seeds are one person's; another ``person`` has other structure, some centimetres wide.
    """
    affine = np.diag([3.0, 3.0, 3.0, 1.0]) if affine is None else affine
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    labels = labels_at(index @ affine[:3, :3].T + affine[:3, 3], centre)
    random = np.random.default_rng(seed)
    voxels = LEVELS[labels] + noise * random.standard_normal(shape) * (labels > 0)
    if person:
        random = np.random.default_rng(person)
        waves = random.normal(0, 1 / 6, (8, 3)), random.uniform(0, 6.3, 8)  # per mm: wavelengths of 2 to 4 cm
        phase = (index @ affine[:3, :3].T) @ waves[0].T + waves[1]
        voxels *= 1 + 0.1 * np.cos(phase).sum(-1)
    voxels = np.asfortranarray(np.maximum(voxels, 0), dtype=np.float32)
    header = nib.Nifti1Header()
    header.set_sform(affine, code="scanner")
    header.set_zooms(np.sqrt((affine[:3, :3] ** 2).sum(0)) if header.get_data_shape() != (0,) else ())
    return Volume(voxels, affine, header, "phantom"), labels


def pair_scan(seed: int = 0) -> tuple[Volume, NDArray[np.uint8]]:
    """A phantom of two modalities, each z-scored in its brain with the darkest value outside, and its true labels."""
    (first, labels), (second, _) = brain_scan(seed=seed), brain_scan(noise=15.0, seed=seed + 1)
    scored = [(image.voxels - 700) / 200 * scale for image, scale in ((first, 1.0), (second, 1.5))]
    return replace(first, voxels=np.asfortranarray(np.stack(scored, axis=-1), dtype=np.float32)), labels


def write_scan(path: Path, shape: tuple[int, int, int] = (60, 72, 60), **options: object) -> Path:
    """Write a phantom scan as NIfTI and return its path."""
    scan, _ = brain_scan(shape, **options)  # type: ignore[arg-type]
    nib.save(nib.Nifti1Image(scan.voxels.astype(np.int16), scan.affine), path)
    return path


def write_reference_model(bundle: Bundle) -> None:
    """Give a toy bundle the statistics of phantom brains, so that references can be drawn."""
    step = 2
    shape = tuple(n // step for n in bundle.grid_shape)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = (index * step + (step - 1) / 2) * bundle.spacing_mm
    labels = labels_at(world, np.array(bundle.alignment.centre_voxel) * bundle.spacing_mm)
    atlas = np.stack([(labels == value) * np.uint8(255) for value in range(len(bundle.classes))]).astype(np.uint8)
    level = LEVELS / LEVELS.max()
    ReferenceModel(
        atlas=atlas,
        step=float(step),
        tissue_of=np.arange(len(bundle.classes), dtype=np.uint8),
        fold_rank=np.array([-1, 2, 1, -1, -1, 0], np.int8),
        intensity_range=np.stack([level * 0.9, level * 1.1], axis=1).astype(np.float32),
        warp_mm=3.0,
        grid_shape=bundle.grid_shape,
        spacing_mm=bundle.spacing_mm,
        further_ranges=(np.stack([level * 0.9, level * 1.1], axis=1).astype(np.float32),)
        * (len(bundle.modalities) - 1),
    ).save(bundle.reference_path)
