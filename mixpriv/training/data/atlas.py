"""Fit the reference generator's statistical model to label maps, or to class maps with their images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv import kernels
from mixpriv.bundle import Alignment
from mixpriv.protection.reference import ReferenceModel
from mixpriv.training.data.labels import FIRST_OUTER, Head

_SMOOTHING = (0.6, 0.6, 0.6)  # voxels: what few maps leave rough

ATLAS_STEP = 4 / 3
"""Bundle voxels per atlas voxel: 2 mm at a spacing of 1.5 mm."""

_FOLDED = {
    "csf": 0,
    "cortex": 1,
    "cerebellar_cortex": 1,
    "cerebral_wm": 2,
    "cerebellar_wm": 2,
    "lesion": 2,
    "claustrum": 2,
}

# T1 contrast relative to white matter, generous around what 1.5 T and 3 T MPRAGE show
_INTENSITY_RANGE = {
    "background": (0, 0), "cerebral_wm": (0.92, 1.0), "cerebellar_wm": (0.86, 1.0), "brainstem": (0.82, 0.98),
    "lesion": (0.7, 0.9), "cortex": (0.55, 0.75), "cerebellar_cortex": (0.52, 0.76), "hippocampus": (0.54, 0.76),
    "caudate": (0.6, 0.8), "putamen": (0.66, 0.86), "pallidum": (0.78, 0.97), "thalamus": (0.72, 0.92),
    "ventricle": (0.12, 0.35), "choroid": (0.3, 0.55), "csf": (0.15, 0.42), "ventral_dc": (0.76, 0.96),
    "amygdala": (0.54, 0.76), "accumbens": (0.6, 0.8), "third_ventricle": (0.12, 0.38),
    "fourth_ventricle": (0.12, 0.38), "claustrum": (0.7, 0.9),
}  # fmt: skip


def grid_to_head(head: Head, alignment: Alignment, spacing_mm: float) -> NDArray[np.float64]:
    """(3, 4) affine from bundle-grid index to the head's voxel index (1 mm)."""
    scale = head.std_mm / np.asarray(alignment.std_mm) * spacing_mm
    return np.column_stack([np.diag(scale), head.centre_mm - scale * np.asarray(alignment.centre_voxel)])


def normalised(image: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Scale the robust range inside a mask, or everywhere, to 0..1 and clip, as the client does."""
    inside = None if mask is None else mask.astype(np.uint8)
    low, high = kernels.robust_range(np.ascontiguousarray(image), inside)
    return np.asarray(((image - low) / max(high - low, 1e-6)).clip(0, 1), dtype=np.float32)


def model_of_class_maps(
    painted: Iterable[tuple[NDArray[np.uint8], NDArray[np.float32]]],
    tissue_of: Sequence[int],
    fold_rank: Sequence[int],
    spacing_mm: float,
    warp_mm: float,
) -> ReferenceModel:
    """Average class maps (D, H, W), 0 outside, and take each class' range of intensities from the images with them.

    Parameters
    ----------
    painted : class map and normalised image, both in the bundle's grid
    tissue_of, fold_rank : (K,), see `ReferenceModel`
    """
    values = np.arange(len(tissue_of))
    total: Any = 0.0
    means = []
    for classes, image in painted:
        total = total + (classes == values[:, None, None, None])
        means.append(class_means(classes, image, len(values)))
    atlas = ndimage.gaussian_filter(total / len(means), (0, *_SMOOTHING))
    d, h, w = atlas.shape[1:]
    return ReferenceModel(
        atlas=np.rint(atlas * 255).astype(np.uint8),
        step=1.0,
        tissue_of=np.array(tissue_of, np.uint8),
        fold_rank=np.array(fold_rank, np.int8),
        intensity_range=ranges_of(means),
        warp_mm=warp_mm,
        grid_shape=(d, h, w),
        spacing_mm=spacing_mm,
    )


def class_means(classes: NDArray[np.uint8], image: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Mean (K,) of an image in each of ``count`` classes, 0 in those that do not occur."""
    voxels = np.bincount(classes.ravel(), minlength=count)
    return np.asarray(np.bincount(classes.ravel(), image.ravel(), minlength=count) / np.maximum(voxels, 1))


def ranges_of(means: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Range (K, 2) of the classes' means (K,) over images, two standard deviations and a little more; 0 for class 0."""
    middle, spread = np.mean(means, 0), 2 * np.std(means, 0) + 0.02
    ranges = np.stack([middle - spread, middle + spread], 1).clip(0, 1)
    ranges[0] = 0
    return np.asarray(ranges, dtype=np.float32)


def fit_reference_model(
    heads: Sequence[Head], alignment: Alignment, grid_shape: Sequence[int], spacing_mm: float, warp_mm: float
) -> ReferenceModel:
    """Average the heads' class maps in the bundle's grid.

    Returns the generator's model; its class order is that of the heads' anatomy, which is the same for all.
    """
    anatomy = heads[0].anatomy
    names = anatomy.intensity_classes
    shape = tuple(int(np.ceil(n / ATLAS_STEP)) for n in grid_shape)
    total = np.zeros((len(names), *shape))
    for head in heads:
        matrix = grid_to_head(head, alignment, spacing_mm)
        # atlas index -> grid index (block centres) -> head index
        offset = matrix[:, :3] @ np.full(3, 0.5 * ATLAS_STEP - 0.5) + matrix[:, 3]
        inner = np.where(head.classes >= FIRST_OUTER, 0, head.classes)
        for index in range(len(names)):
            smooth = ndimage.uniform_filter((inner == index).astype(np.float32), 2)
            total[index] += ndimage.affine_transform(
                smooth, np.diag(matrix)[:3] * ATLAS_STEP, offset, shape, order=1, cval=float(index == 0)
            )
    return ReferenceModel(
        atlas=np.rint(total / len(heads) * 255).astype(np.uint8),
        step=ATLAS_STEP,
        tissue_of=anatomy.class_of,
        fold_rank=np.array([_FOLDED.get(name, -1) for name in names], np.int8),
        intensity_range=np.array([_INTENSITY_RANGE[name] for name in names], np.float32),
        warp_mm=warp_mm,
        grid_shape=(int(grid_shape[0]), int(grid_shape[1]), int(grid_shape[2])),
        spacing_mm=spacing_mm,
    )
