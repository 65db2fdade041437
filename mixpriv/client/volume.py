"""Scans in, label maps out: NIfTI files, checked on the way in and written whole on the way out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel import imageglobals
from numpy.typing import NDArray

from mixpriv.client.files import write_file
from mixpriv.errors import InputError

MAX_VOXELS = 2**29
"""About 800³: larger than any head scan, small enough to be held in memory."""
MIN_VOXELS_PER_AXIS = 8
MIN_EXTENT_MM, MAX_EXTENT_MM = 16.0, 600.0
MIN_SPACING_MM, MAX_SPACING_MM = 0.05, 20.0
SUFFIXES = (".nii.gz", ".nii")

imageglobals.logger.disabled = True  # else nibabel tells the terminal what it finds in a header

_MAX_DEFLATE_RATIO = 1032  # a property of the format: no stream expands more
_MIN_DETERMINANT = 0.01  # of the affine's unit axes: 1 is orthogonal, 0 is flat
_GZIP_LEVEL = 1
_DAMAGED = (OSError, EOFError, cast("type[Exception]", IsalError))  # its stub calls the class an instance


@dataclass(frozen=True)
class Volume:
    """A 3-D image in its own grid, or several modalities that share one.

    Attributes
    ----------
    voxels : (I, J, K) or, of M modalities, (I, J, K, M) float32, scaled, in Fortran order (the file's)
    affine : (4, 4) voxel index to world mm (RAS+)
    header : NIfTI header of the file, kept for writing in the same grid
    name : for messages only
    """

    voxels: NDArray[np.float32] = field(repr=False)
    affine: NDArray[np.float64] = field(repr=False)
    header: Any = field(repr=False)
    name: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid, (I, J, K)."""
        i, j, k = self.voxels.shape[:3]
        return i, j, k

    @property
    def modalities(self) -> tuple[Volume, ...]:
        """Each modality as an image of its own, without a copy."""
        if self.voxels.ndim == 3:
            return (self,)
        return tuple(
            replace(self, voxels=self.voxels[..., m], name=f"{self.name}, modality {m + 1}")
            for m in range(self.voxels.shape[3])
        )

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance of neighbouring voxels along each array axis, (3,) mm."""
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))

    @cached_property
    def lowest(self) -> float:
        """The smallest of the voxels."""
        return float(self.voxels.min())

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0


def stem(path: Path) -> str:
    """File name without .nii or .nii.gz."""
    return next((path.name[: -len(s)] for s in SUFFIXES if path.name.lower().endswith(s)), path.name)


def load_volume(path: Path, modalities: Sequence[str] = ()) -> Volume:
    """Read a NIfTI image (``.nii``, ``.nii.gz``; NIfTI-1 or -2, any byte order, type and scaling).

    The header is judged before memory is asked for, so a file cannot make the client allocate more than it is worth.

    Parameters
    ----------
    modalities : names of what the last axis of a 4-D image holds; up to one of them means a 3-D image

    Raises
    ------
    InputError
        not such a file, damaged, not a real-valued image of these modalities, or geometry or voxels that cannot be a
        head's.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = igzip.IGzipFile(fileobj=raw, mode="rb") if zipped else raw
            size_limit = path.stat().st_size * (_MAX_DEFLATE_RATIO if zipped else 1)
            image = _open_image(stream, path)
            shape = _check_header(image.header, modalities, size_limit, path)
            affine = _affine_of(image, shape, path)
            voxels = _read_voxels(image, stream, shape, path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected a file, got a folder") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file") from None
    except _DAMAGED:
        raise InputError(f"{path}: file is truncated or damaged") from None
    return Volume(voxels, affine, image.header, str(path))


def _open_image(stream: Any, path: Path) -> Any:
    start = stream.read(540)
    stream.seek(0)
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        if kind.header_class.may_contain_header(start) and b"n+" in start[:348]:
            try:
                return kind.from_file_map({"image": nib.FileHolder(fileobj=stream)}, mmap=False)
            except (ValueError, nib.spatialimages.HeaderDataError, nib.filebasedimages.ImageFileError):
                raise InputError(f"{path}: NIfTI header is not valid") from None
    raise InputError(f"{path}: expected a NIfTI image (.nii or .nii.gz), got something else")


def _check_header(header: Any, modalities: Sequence[str], size_limit: int, path: Path) -> tuple[int, ...]:
    shape = tuple(int(n) for n in header.get_data_shape())
    channels = (len(modalities),) if len(modalities) > 1 else ()
    while len(shape) > 3 + len(channels) and shape[-1] == 1:
        shape = shape[:-1]
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = "complex" if dtype.kind == "c" else "colour or compound"
        raise InputError(f"{path}: expected integer or floating-point voxels, got {kind} ones")
    if channels and shape[3:] != channels:
        raise InputError(
            f"{path}: expected a 4-D image whose last axis holds {len(modalities)} modalities "
            f"({', '.join(modalities)}), got shape {shape}"
        )
    if len(shape) != 3 + len(channels) or min(shape) < 1:
        raise InputError(f"{path}: expected a 3-D image, got shape {shape}")
    if 1 in shape[:3]:
        raise InputError(f"{path}: expected a 3-D image, got a 2-D one of shape {shape}")
    if math.prod(shape) > MAX_VOXELS:
        raise InputError(f"{path}: expected at most {MAX_VOXELS} voxels, got shape {shape}")
    if min(shape[:3]) < MIN_VOXELS_PER_AXIS:
        raise InputError(f"{path}: expected at least {MIN_VOXELS_PER_AXIS} voxels along each axis, got shape {shape}")
    if math.prod(shape) * dtype.itemsize > size_limit:
        raise InputError(f"{path}: file is truncated or damaged: too small for an image of shape {shape}")
    return shape


def _affine_of(image: Any, shape: tuple[int, ...], path: Path) -> NDArray[np.float64]:
    affine: NDArray[np.float64] = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise InputError(f"{path}: affine has NaN or infinite entries")
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if spacing.min() < MIN_SPACING_MM or spacing.max() > MAX_SPACING_MM:
        raise InputError(f"{path}: expected voxels of {MIN_SPACING_MM} to {MAX_SPACING_MM:.0f} mm, got other spacings")
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < _MIN_DETERMINANT:
        raise InputError(f"{path}: affine is singular")
    extent = spacing * shape[:3]
    if extent.min() < MIN_EXTENT_MM or extent.max() > MAX_EXTENT_MM:
        raise InputError(
            f"{path}: expected a field of view of {MIN_EXTENT_MM:.0f} to {MAX_EXTENT_MM:.0f} mm along each axis, "
            f"got a smaller or larger one with shape {shape}"
        )
    return affine


def _read_voxels(image: Any, stream: Any, shape: tuple[int, ...], path: Path) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = image.get_fdata(caching="unchanged", dtype=np.float32)
        voxels: NDArray[np.float32] = np.asfortranarray(scaled.reshape(shape, order="F"), dtype=np.float32)
    stream.read(1)  # at the end of the data gzip checks its CRC
    low, high = float(voxels.min()), float(voxels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"{path}: voxels are NaN or infinite")
    if low == high:
        raise InputError(f"{path}: all voxels have the same value")
    return voxels


def encode_labels(labels: NDArray[np.uint8], like: Volume) -> bytes:
    """Make a NIfTI file (not zipped) of a label map in the grid of a scan: affine, qform, sform and codes as they were.

    Nothing else of the header is kept: scaling, display range, texts and extensions belong to the scan.
    """
    header = type(like.header)(endianness=like.header.endianness)
    for name in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                 "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"):  # fmt: skip
        header[name] = like.header[name]
    header.set_data_shape(labels.shape)
    header["pixdim"][:4] = like.header["pixdim"][:4]
    header.set_data_dtype(np.uint8)
    header.set_intent("label")
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["descrip"] = b"mixpriv segmentation"
    header["vox_offset"] = header.single_vox_offset
    padding = header.single_vox_offset - len(header.binaryblock)
    return b"".join((header.binaryblock, bytes(padding), labels.ravel(order="F").data))


def encode_image(array: NDArray[Any], spacing_mm: float) -> bytes:
    """Make a NIfTI-1 file (not zipped) of an array in R, A, S order of isotropic spacing, at no place in the world."""
    affine = np.diag((spacing_mm, spacing_mm, spacing_mm, 1.0))
    return bytes(nib.Nifti1Image(array, affine).to_bytes())


def write_nifti(path: Path, content: bytes) -> None:
    """Write an encoded NIfTI file, see `zipped_as_named`."""
    write_file(path, zipped_as_named(path, content))


def zipped_as_named(path: Path, content: bytes) -> bytes:
    """A file's bytes, zipped if its name ends with .gz; the same content gives the same bytes."""
    return bytes(igzip.compress(content, _GZIP_LEVEL, mtime=0)) if path.name.lower().endswith(".gz") else content
