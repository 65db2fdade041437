"""The result of a segmentation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mixpriv.atomic import check_outputs, write_outputs
from mixpriv.bundle import Bundle
from mixpriv.client.table import ClassVolume, class_volumes, encode_table
from mixpriv.errors import InputError
from mixpriv.imaging.mgh import MGH_SUFFIXES
from mixpriv.imaging.resample import Conformed, image_to_scan
from mixpriv.imaging.volume import SUFFIXES, Volume, encode_as_named, encode_labels, stem, suffix_of
from mixpriv.labels import Labelling
from mixpriv.quality.check import Check
from mixpriv.wire.delivery import Delivery

_HINT = "pass overwrite=True"

_FORMER_NAMES = {
    "nuclei": "subcortical grey matter",
    "internal CSF": "ventricles",
    "external CSF": "extraventricular CSF",
}


@dataclass(frozen=True)
class Exchange:
    """One request and its answer: ``sent`` (M, D, H, W) float16, ``received`` (C-1, D, H, W) uint8."""

    sent: NDArray[np.float16] = field(repr=False)
    received: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True)
class Attempt:
    """One request that was to be sent, and what came of it.

    Attributes
    ----------
    image : (M, D, H, W), what was to be sent
    checked : whether it was compared with other people's scans
    refusal : why it must not leave this machine; empty if it may
    deliveries : to whom it went; nothing if it did not leave this program
    answer : (C-1, D, H, W) uint8, None without one
    """

    image: NDArray[np.float16] = field(repr=False)
    checked: bool
    refusal: str
    deliveries: tuple[Delivery, ...]
    answer: NDArray[np.uint8] | None = field(repr=False)

    @staticmethod
    def exchanges(attempts: Iterable[Attempt]) -> list[Exchange]:
        """Those that were answered."""
        return [Exchange(one.image, one.answer) for one in attempts if one.answer is not None]


@dataclass(frozen=True)
class Segmentation:
    """The labels of a scan, with what is needed to report on them.

    Attributes
    ----------
    labels : (I, J, K) uint8 in the scan's grid, Fortran order
    labelling : what their values mean: ``labelling.labels`` has index, name, abbreviation and color of each
    bundle : whose networks made them
    scan : what was segmented
    probabilities : (C, D, H, W) float32 of ``labelling.classes`` in the bundle's grid, on any positive scale; they
        count inside the scan's mask
    conformed : the scan in the bundle's grid; secret
    brain_ml : volume of the extracted brain, None for a region-of-interest crop
    server : which was asked; None if the network ran in this process, or nothing was sent
    exchanges : every request and its answer
    warnings : for the user, one line each
    checks : what was looked at, also what passed; those that failed are among the warnings
    flags : of each value, names of the failed checks of the result that concern it
    risk : how many standard deviations more similar what was sent is to the scan than to other people's; None if
        nobody looked
    """

    labels: NDArray[np.uint8] = field(repr=False)
    labelling: Labelling = field(repr=False)
    bundle: Bundle = field(repr=False)
    scan: Volume = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    conformed: Conformed = field(repr=False)
    brain_ml: float | None
    server: str | None
    exchanges: tuple[Exchange, ...]
    warnings: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    flags: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    risk: float | None = None

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4), from the index of a voxel to millimetres (R, A, S)."""
        return self.scan.affine

    @cached_property
    def volumes(self) -> list[ClassVolume]:
        """Voxels and volume of each label but the background's, in the order of their values."""
        return class_volumes(self.labels, self.scan.voxel_ml, self.labelling, self.flags)

    @property
    def score(self) -> float | None:
        """The mean Dice that such a result can be expected to have, 0 to 1; None if the bundle has no such score."""
        return next((check.value for check in self.checks if check.name == "score"), None)

    @property
    def confidence(self) -> NDArray[np.uint8]:
        """(I, J, K) uint8 in the scan's grid, how sure each label is, %; 0 where there is none."""
        top = self.probabilities.max(axis=0)
        top /= np.maximum(self.probabilities.sum(axis=0), np.float32(1e-30))
        sure = image_to_scan(top * np.float32(100), self.conformed.grid, self.scan)
        return np.asarray(np.where(self.labels > 0, np.rint(np.clip(sure, 1, 100)), 0), np.uint8, order="F")

    @property
    def both_sides(self) -> list[ClassVolume]:
        """The same for each class but the background, its two sides together; ``index`` is the class' number."""
        counted = {volume.index: volume for volume in self.volumes}
        rows = []
        for of in self.labelling.classes[1:]:
            sides = [counted[label.index] for label in self.labelling.sides(of)]
            voxels, ml = sum(side.voxels for side in sides), round(sum(side.volume_ml for side in sides), 3)
            rows.append(ClassVolume(of.index, of.name, of.abbreviation, of.color, voxels, ml, sides[0].flags))
        return rows

    @property
    def intracranial_ml(self) -> float | None:
        """Intracranial volume, ml: all that has a label, brain and CSF in and around it; None for a crop.

        CSF is counted inside the mask that the client makes of the brain, up to about 2 mm around it.
        """
        return None if self.bundle.crop else round(sum(volume.volume_ml for volume in self.volumes), 3)

    @property
    def volumes_ml(self) -> Mapping[str, float]:
        """Volume of each label by its name, ml; of a class with two sides ``left ...`` and ``right ...``."""
        return _ByName({volume.name: volume.volume_ml for volume in self.volumes})

    def to_nibabel(self) -> nib.Nifti1Image:
        """Make a NIfTI image of the labels, in the scan's grid and with its header's geometry."""
        return nib.Nifti1Image.from_bytes(encode_labels(self.labels, self.scan))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the labels (NIfTI or MGH, as named), and beside them the table of volumes (``.tsv``); both or none.

        Raises
        ------
        InputError
            the name ends otherwise or is the scan's own, or a file exists and is not to be overwritten.
        OutputError
            a file cannot be written.
        """
        labels = Path(path)
        if suffix_of(labels) not in (*SUFFIXES, *MGH_SUFFIXES):
            raise InputError(f"{labels}: expected an output named .nii, .nii.gz, .mgz or .mgh")
        table = labels.with_name(f"{stem(labels)}.tsv")
        contents = {
            labels: encode_as_named(labels, self.labels, self.scan),
            table: encode_table(self.volumes),
        }
        if os.path.realpath(labels) == os.path.realpath(self.scan.name):
            raise InputError(f"{labels}: expected an output that is not the scan itself")
        check_outputs(contents, force=overwrite, hint=_HINT)
        write_outputs(contents, force=overwrite, hint=_HINT)


class _ByName(dict[str, float]):
    """Values by the names of classes; those that classes had before lead to them, too, for one version."""

    def __missing__(self, name: str) -> float:
        if name in _FORMER_NAMES and _FORMER_NAMES[name] in self:
            warnings.warn(f"class {name!r} is now {_FORMER_NAMES[name]!r}", DeprecationWarning, stacklevel=2)
            return self[_FORMER_NAMES[name]]
        raise KeyError(name)
