"""Scans in, label maps out: files of each format, checked on the way in and in the scan's own grid on the way out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import InputError
from mixpriv.imaging.dicom.files import is_dicom
from mixpriv.imaging.dicom.reader import read_dicom
from mixpriv.imaging.files import Content, Ranges, zipped_as_named
from mixpriv.imaging.geometry import check_geometry, spacing_of
from mixpriv.imaging.mgh import MGH_SUFFIXES, encode_mgh, read_mgh
from mixpriv.imaging.nifti import read_nifti
from mixpriv.imaging.pair import PAIR_SUFFIXES, read_pair
from mixpriv.imaging.size import check_size

SUFFIXES = (".nii.gz", ".nii")
DESCRIPTION = b"mixpriv"
WIRE_DESCRIPTION = DESCRIPTION + b" wire"
"""With this the header of each image begins to describe itself that we write: it is no scan."""


@dataclass(frozen=True)
class Image:
    """An array and where it lies; nothing is checked.

    Attributes
    ----------
    voxels : (I, J, K) or, of M modalities, (I, J, K, M) float32, scaled, in Fortran order (the file's)
    affine : (4, 4) voxel index to world mm (RAS+)

    Examples
    --------
    >>> image = Image(np.zeros((4, 4, 4), np.float32), np.diag([1.0, 2.0, 5.0, 1.0]))
    >>> image.spacing_mm.tolist(), round(image.voxel_ml, 3)
    ([1.0, 2.0, 5.0], 0.01)
    """

    voxels: NDArray[np.float32] = field(repr=False)
    affine: NDArray[np.float64] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid, (I, J, K)."""
        i, j, k = self.voxels.shape[:3]
        return i, j, k

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance of neighbouring voxels along each array axis, (3,) mm."""
        return spacing_of(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0


@dataclass(frozen=True)
class Volume(Image):
    """A 3-D scan in its own grid, or several modalities that share one; checked, whoever makes it.

    Attributes
    ----------
    header : NIfTI header of the file, kept for writing in the same grid; None of an array
    name : for messages only
    warnings : what the user should know of how the file was read
    ranges : lowest and highest voxel of each modality; ``known_ranges`` spares looking for them

    Raises
    ------
    InputError
        voxels or affine are of another type or shape, or cannot be those of a scan: too many or too few voxels, NaN,
        infinity, one value everywhere, or a geometry that `check_geometry` refuses.

    Examples
    --------
    >>> voxels = np.asfortranarray(np.arange(16**3).reshape(16, 16, 16), np.float32)
    >>> Volume(voxels, 2 * np.eye(4), None, "scan")
    Traceback (most recent call last):
    ...
    mixpriv.errors.InputError: scan: affine: expected a 4x4 matrix whose last row is 0 0 0 1
    """

    header: Any = field(repr=False)
    name: str
    warnings: tuple[str, ...] = field(default=(), repr=False)
    known_ranges: InitVar[Ranges | None] = None
    ranges: Ranges = field(init=False, repr=False)

    def __post_init__(self, known_ranges: Ranges | None) -> None:
        _check_arrays(self.voxels, self.affine, self.name)
        check_size(self.voxels.shape, self.name)
        check_geometry(self.affine, self.voxels.shape, self.name)
        if known_ranges is None:
            several = self.voxels.ndim == 4
            images = np.moveaxis(self.voxels, 3, 0) if several else self.voxels[None]
            known_ranges = tuple((float(image.min()), float(image.max())) for image in images)
        object.__setattr__(self, "ranges", known_ranges)
        if not all(math.isfinite(end) for limits in self.ranges for end in limits):
            raise InputError(f"{self.name}: voxels are NaN or infinite")
        if any(low == high for low, high in self.ranges):
            raise InputError(f"{self.name}: all voxels have the same value")

    @property
    def modalities(self) -> tuple[Volume, ...]:
        """Each modality as an image of its own, without a copy."""
        if self.voxels.ndim == 3:
            return (self,)
        return tuple(
            replace(
                self,
                voxels=self.voxels[..., m],
                name=f"{self.name}, modality {m + 1}",
                known_ranges=(self.ranges[m],),
            )
            for m in range(self.voxels.shape[3])
        )

    @property
    def lowest(self) -> float:
        """The smallest of the voxels."""
        return min(low for low, _ in self.ranges)


def _check_arrays(voxels: Any, affine: Any, name: str) -> None:
    """What only an array from Python can have wrong."""
    for array, meaning, dtype in ((voxels, "voxels", np.float32), (affine, "affine", np.float64)):
        if not isinstance(array, np.ndarray):
            raise InputError(f"{name}: {meaning}: expected a NumPy array, got {type(array).__name__}")
        if array.dtype != dtype:
            raise InputError(f"{name}: {meaning}: expected {np.dtype(dtype)}, got {array.dtype}")
    if voxels.ndim not in (3, 4):
        raise InputError(f"{name}: expected a 3-D image, or 4-D of several modalities, got shape {voxels.shape}")
    if affine.shape != (4, 4) or not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise InputError(f"{name}: affine: expected a 4x4 matrix whose last row is 0 0 0 1")


def suffix_of(path: Path) -> str:
    """The end of a file's name that tells its format, in small letters; empty if none is known.

    Examples
    --------
    >>> suffix_of(Path("HEAD.NII.GZ")), suffix_of(Path("head.txt"))
    ('.nii.gz', '')
    """
    name = path.name.lower()
    return next((s for s in (*SUFFIXES, *MGH_SUFFIXES, *PAIR_SUFFIXES, ".dcm") if name.endswith(s)), "")


def stem(path: Path) -> str:
    """File name without what tells its format.

    Examples
    --------
    >>> stem(Path("folder/head.nii.gz"))
    'head'
    """
    return path.name[: len(path.name) - len(suffix_of(path))]


def load_volume(path: Path, modalities: Sequence[str] = (), series: str | None = None) -> Volume:
    """Read an image: NIfTI (one file or a pair), Analyze, MGH or MGZ, of any byte order, type and scaling; or DICOM.

    The header is judged before anything else is read and before memory is asked for, and a zipped file is read to its
    end, where its checksum stands.

    Parameters
    ----------
    modalities : names of what the last axis of a 4-D image holds; up to one of them means a 3-D image
    series : number or UID of a series, if the path is a folder of DICOM files

    Raises
    ------
    InputError
        not such a file, damaged, not a real-valued image of these modalities, or geometry or voxels that cannot be a
        head's.
    """
    suffix = suffix_of(path)
    if os.path.isdir(path) or suffix == ".dcm" or is_dicom(path):
        return _of_content(read_dicom(path, modalities, series), path)
    read = read_mgh if suffix in MGH_SUFFIXES else read_pair if suffix in PAIR_SUFFIXES else read_nifti
    return _of_content(read(path, modalities), path)


def _of_content(content: Content, path: Path) -> Volume:
    voxels, affine, header, warnings, ranges = content
    return Volume(voxels, affine, header, str(path), warnings, ranges)


def encode_as_named(path: Path, labels: NDArray[np.uint8], like: Volume) -> bytes:
    """Make the file of a label map (I, J, K) in the grid of a scan, in the format that its name tells: NIfTI or MGH."""
    mgh = suffix_of(path) in MGH_SUFFIXES
    return zipped_as_named(path, encode_mgh(labels, like.affine, like.header) if mgh else encode_labels(labels, like))


def encode_labels(labels: NDArray[np.uint8], like: Volume) -> bytes:
    """Make a NIfTI file (not zipped) of a label map in the grid of a scan: affine, qform, sform and codes as they were.

    Nothing else of the header is kept: scaling, display range, texts and extensions belong to the scan.

    Examples
    --------
    >>> voxels = np.asfortranarray(np.arange(16**3).reshape(16, 16, 16), np.float32)
    >>> scan = Volume(voxels, np.diag([2.0, 2.0, 2.0, 1.0]), None, "scan")
    >>> labels = np.zeros(scan.shape, np.uint8, order="F")
    >>> nib.Nifti1Image.from_bytes(encode_labels(labels, scan)).get_data_dtype()
    dtype('uint8')
    """
    like_header = like.header if isinstance(like.header, nib.Nifti1Header) else _header_of(like)
    header = type(like_header)(endianness=like_header.endianness)
    for name in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                 "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"):  # fmt: skip
        header[name] = like_header[name]
    header.set_data_shape(labels.shape)
    header["pixdim"][:4] = like_header["pixdim"][:4]
    header.set_data_dtype(np.uint8)
    header.set_intent("label")
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["descrip"] = DESCRIPTION + b" segmentation"
    header["vox_offset"] = header.single_vox_offset
    padding = header.single_vox_offset - len(header.binaryblock)
    return b"".join((header.binaryblock, bytes(padding), labels.ravel(order="F").data))


def _header_of(volume: Volume) -> nib.Nifti1Header:
    """A header for a scan that came without one."""
    header = nib.Nifti1Header()
    header.set_data_shape(volume.shape)
    header.set_sform(volume.affine, "scanner")
    header.set_qform(volume.affine, "scanner")
    header.set_xyzt_units("mm")
    return header


def encode_image(array: NDArray[Any], spacing_mm: float) -> bytes:
    """Make a NIfTI-1 file (not zipped) of an array in R, A, S order of isotropic spacing, at no place in the world."""
    image = nib.Nifti1Image(array, np.diag((spacing_mm, spacing_mm, spacing_mm, 1.0)))
    image.header["descrip"] = WIRE_DESCRIPTION
    return bytes(image.to_bytes())
