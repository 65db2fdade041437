"""Anatomical label maps (FreeSurfer numbering) turned into what training needs: classes, intensity classes, a mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mixpriv.errors import InputError
from mixpriv.imaging.alignment import mask_moments_mm
from mixpriv.training.ventricles import towards


@dataclass(frozen=True)
class Anatomy:
    """Which classes a network tells apart, and what a generator of scans knows of them.

    ``classes``: their names, background first. ``parts``: for each intensity class (what has a grey of its own), in the
    order of their numbers 1, 2, ..., its class and FreeSurfer labels. CSF around the brain is the last of them.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, tuple[str, tuple[int, ...]]]

    @cached_property
    def intensity_classes(self) -> tuple[str, ...]:
        """Names of the intensity classes by their numbers, the background among them."""
        return ("background", *self.parts)

    @cached_property
    def class_of(self) -> NDArray[np.uint8]:
        """(K,) value of the class that each intensity class belongs to."""
        return np.array([0, *(self.classes.index(name) for name, _ in self.parts.values())], np.uint8)

    def number(self, intensity_class: str) -> int:
        """Number of an intensity class."""
        return self.intensity_classes.index(intensity_class)


TISSUES = ("background", "white matter", "grey matter", "nuclei", "internal CSF", "external CSF")
"""The five tissue classes with their label values as indices."""

_VENTRICLES = (4, 5, 43, 44, 72)
_CHOROID_PLEXUS = (136, 137, 163, 164)

TISSUE_ANATOMY = Anatomy(
    TISSUES,
    {
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
        "ventricle": ("internal CSF", (*_VENTRICLES, 14, 15)),
        "choroid": ("internal CSF", _CHOROID_PLEXUS),
        "csf": ("external CSF", (24,)),
    },
)

STRUCTURES = (
    "background", "cerebral white matter", "cerebral cortex", "lateral ventricle", "cerebellar white matter",
    "cerebellar cortex", "thalamus", "caudate", "putamen", "pallidum", "third ventricle", "fourth ventricle",
    "brain stem", "hippocampus", "amygdala", "extraventricular CSF", "accumbens", "ventral DC",
)  # fmt: skip
"""Structures of FreeSurfer's aseg, left and right merged, with their label values as indices."""

STRUCTURE_ANATOMY = Anatomy(
    STRUCTURES,
    {
        "cerebral_wm": ("cerebral white matter", (2, 41)),
        "cerebellar_wm": ("cerebellar white matter", (7, 46)),
        "brainstem": ("brain stem", (16,)),
        "ventral_dc": ("ventral DC", (28, 60, 85)),
        "lesion": ("cerebral white matter", (25, 57)),
        "claustrum": ("cerebral white matter", ()),  # label maps do not have it, see `claustrum`
        "cortex": ("cerebral cortex", (3, 42)),
        "cerebellar_cortex": ("cerebellar cortex", (8, 47)),
        "hippocampus": ("hippocampus", (17, 53)),
        "amygdala": ("amygdala", (18, 54)),
        "caudate": ("caudate", (11, 50)),
        "accumbens": ("accumbens", (26, 58)),
        "putamen": ("putamen", (12, 51, 30, 62)),
        "pallidum": ("pallidum", (13, 52)),
        "thalamus": ("thalamus", (10, 49)),
        "ventricle": ("lateral ventricle", _VENTRICLES),
        "choroid": ("lateral ventricle", _CHOROID_PLEXUS),
        "third_ventricle": ("third ventricle", (14,)),
        "fourth_ventricle": ("fourth ventricle", (15,)),
        "csf": ("extraventricular CSF", (24,)),
    },
)

FIRST_OUTER = 32
"""Outer structures (skull, skin, eyes ... 502-530) are numbered from here, CSF outside the brain mask among them."""


def anatomy_of(classes: Sequence[str]) -> Anatomy:
    """The anatomy that has these classes.

    Raises
    ------
    InputError
        none has.
    """
    for anatomy in (TISSUE_ANATOMY, STRUCTURE_ANATOMY):
        if anatomy.classes == tuple(classes):
            return anatomy
    raise InputError(f"classes: expected {len(TISSUES)} tissues or {len(STRUCTURES)} structures, got {len(classes)}")


@dataclass(frozen=True)
class Head:
    """One label map in RAS order, 1 mm.

    ``classes``: (R, A, S) uint8, the anatomy's intensity classes inside the brain mask, outer structures from
    FIRST_OUTER. ``mask``: (R, A, S) bool brain mask. ``centre_mm``, ``std_mm``: its moments in index space (1 mm
    voxels).
    """

    name: str
    classes: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    centre_mm: NDArray[np.float64]
    std_mm: NDArray[np.float64]
    anatomy: Anatomy = TISSUE_ANATOMY

    @cached_property
    def towards_ventricles(self) -> Tensor:
        """The field by which ventricles are made wider or narrower, see `ventricles.widen`."""
        names = [name for name in self.anatomy.parts if "ventricle" in name or name == "choroid"]
        return towards(np.isin(self.classes, [self.anatomy.number(name) for name in names]))


def _ball(radius: int) -> NDArray[np.bool_]:
    axis = np.arange(-radius, radius + 1)
    return np.asarray(sum(g**2 for g in np.meshgrid(axis, axis, axis)) <= radius**2)


def brain_mask(classes: NDArray[np.uint8], csf: int) -> NDArray[np.bool_]:
    """Brain tissue and the CSF around it (class number ``csf``) within its closing dilated by 2 mm; 1 mm voxels."""
    tissue = (classes > 0) & (classes < csf)
    padded = np.pad(tissue, 8)
    closed = ndimage.binary_erosion(ndimage.binary_dilation(padded, _ball(5)), _ball(5))
    near = ndimage.binary_dilation(closed | padded, _ball(2))[8:-8, 8:-8, 8:-8]
    return np.asarray(tissue | (near & (classes == csf)))


def claustrum(classes: NDArray[np.uint8], anatomy: Anatomy) -> NDArray[np.bool_]:
    """Where white matter is half-way between putamen and insula: there is a sheet of grey, which maps call white.

    Without it in the generator's scans, a network takes what it sees there on real ones for putamen. 1 mm voxels.
    """
    found = np.zeros(classes.shape, bool)
    putamen = classes == anatomy.number("putamen")
    if not putamen.any():
        return found
    corners = [(int(where.min()), int(where.max())) for where in np.nonzero(putamen)]
    box = tuple(slice(max(0, low - 10), high + 11) for low, high in corners)
    near = classes[box]
    to_putamen = ndimage.distance_transform_edt(~putamen[box])
    to_cortex = ndimage.distance_transform_edt(near != anatomy.number("cortex"))
    sheet = (to_putamen + to_cortex < 8) & (np.abs(to_putamen - to_cortex) < 1)
    found[box] = sheet & (near == anatomy.number("cerebral_wm"))
    return found


def load_head(path: Path, anatomy: Anatomy = TISSUE_ANATOMY) -> Head:
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
    for index, (_, values) in enumerate(anatomy.parts.values(), start=1):
        lut[list(values)] = index
    lut[502:531] = FIRST_OUTER + 1 + np.arange(29)
    classes = np.ascontiguousarray(lut[labels])
    if (classes == 255).any():
        raise InputError(f"{path}: unknown labels {np.unique(labels[classes == 255]).tolist()}")
    if "claustrum" in anatomy.parts:
        classes[claustrum(classes, anatomy)] = anatomy.number("claustrum")
    csf = anatomy.number("csf")
    mask = brain_mask(classes, csf)
    classes[(classes == csf) & ~mask] = FIRST_OUTER
    centre, std = mask_moments_mm(mask, np.eye(4))
    return Head(path.name.split("_")[0], classes, mask, centre, std, anatomy)


def load_heads(folder: Path, anatomy: Anatomy = TISSUE_ANATOMY) -> Iterator[Head]:
    """All label maps of a folder, in the order of their names."""
    paths = sorted(folder.glob("*_dseg.nii.gz"))
    if not paths:
        raise InputError(f"{folder}: expected label maps named *_dseg.nii.gz, found none")
    yield from (load_head(path, anatomy) for path in paths)
