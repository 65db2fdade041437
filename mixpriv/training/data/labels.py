"""Anatomical label maps (FreeSurfer numbering) turned into what training needs: tissues, intensity classes, a mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.errors import InputError
from mixpriv.imaging.alignment import mask_moments_mm

TISSUES = ("background", "white matter", "grey matter", "nuclei", "internal CSF", "external CSF")
"""The five tissue classes with their label values as indices."""

# intensity class -> (tissue, FreeSurfer labels); the order defines the class numbers 1..14
_INTENSITY_CLASSES: dict[str, tuple[str, tuple[int, ...]]] = {
    "cerebral_wm": ("white matter", (2, 41)),
    "cerebellar_wm": ("white matter", (7, 46)),
    "brainstem": ("white matter", (16, 28, 60, 85)),
    "lesion": ("white matter", (25, 57)),
    "cortex": ("grey matter", (3, 42)),
    "cerebellar_cortex": ("grey matter", (8, 47)),
    "hippocampus": ("grey matter", (17, 53, 18, 54)),
    "caudate": ("nuclei", (11, 50, 26, 58)),
    "putamen": ("nuclei", (12, 51, 30, 62)),
    "pallidum": ("nuclei", (13, 52)),
    "thalamus": ("nuclei", (10, 49)),
    "ventricle": ("internal CSF", (4, 5, 14, 15, 43, 44, 72)),
    "choroid": ("internal CSF", (136, 137, 163, 164)),
    "csf": ("external CSF", (24,)),
}
INTENSITY_CLASSES = ("background", *_INTENSITY_CLASSES)
TISSUE_OF = np.array([0, *(TISSUES.index(t) for t, _ in _INTENSITY_CLASSES.values())], np.uint8)
"""(15,) tissue value of each intensity class."""

FIRST_OUTER = 32
"""Outer structures (skull, skin, eyes ... 502-530) are numbered from here, CSF outside the brain mask among them."""


@dataclass(frozen=True)
class Head:
    """One label map in RAS order, 1 mm.

    ``classes``: (R, A, S) uint8, intensity classes 0..14 inside the brain mask, outer structures from FIRST_OUTER.
    ``mask``: (R, A, S) bool brain mask. ``centre_mm``, ``std_mm``: its moments in index space (1 mm voxels).
    """

    name: str
    classes: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    centre_mm: NDArray[np.float64]
    std_mm: NDArray[np.float64]


def _ball(radius: int) -> NDArray[np.bool_]:
    axis = np.arange(-radius, radius + 1)
    return np.asarray(sum(g**2 for g in np.meshgrid(axis, axis, axis)) <= radius**2)


def brain_mask(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Brain tissue and the external CSF within its closing dilated by 2 mm; 1 mm voxels."""
    tissue = (classes > 0) & (classes < INTENSITY_CLASSES.index("csf"))
    padded = np.pad(tissue, 8)
    closed = ndimage.binary_erosion(ndimage.binary_dilation(padded, _ball(5)), _ball(5))
    near = ndimage.binary_dilation(closed | padded, _ball(2))[8:-8, 8:-8, 8:-8]
    return np.asarray(tissue | (near & (classes == INTENSITY_CLASSES.index("csf"))))


def load_head(path: Path) -> Head:
    """Read one label map.

    Raises
    ------
    InputError
        a label that is neither a known brain structure nor an outer one (502-530).
    """
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.asarray(image.dataobj).astype(np.int32)
    lut = np.full(1024, 255, np.uint8)
    lut[0] = 0
    for index, (_, values) in enumerate(_INTENSITY_CLASSES.values(), start=1):
        lut[list(values)] = index
    lut[502:531] = FIRST_OUTER + 1 + np.arange(29)
    classes = lut[labels]
    if (classes == 255).any():
        raise InputError(f"{path}: unknown labels {np.unique(labels[classes == 255]).tolist()}")
    mask = brain_mask(classes)
    classes[(classes == INTENSITY_CLASSES.index("csf")) & ~mask] = FIRST_OUTER
    centre, std = mask_moments_mm(mask, np.eye(4))
    return Head(path.name.split("_")[0], classes, mask, centre, std)


def load_heads(folder: Path) -> Iterator[Head]:
    """All label maps of a folder, in the order of their names."""
    paths = sorted(folder.glob("*_dseg.nii.gz"))
    if not paths:
        raise InputError(f"{folder}: expected label maps named *_dseg.nii.gz, found none")
    yield from (load_head(path) for path in paths)
