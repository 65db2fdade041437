"""Scans in, label maps out: NIfTI files, checked on the way in and written whole on the way out."""

from __future__ import annotations

import math
import stat
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, replace
from gzip import BadGzipFile
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from mixpriv.atomic import write_file
from mixpriv.errors import InputError
from mixpriv.imaging.geometry import check_geometry, spacing_of, world_affine
from mixpriv.imaging.nifti import LONGEST_START, Ranges, decode, decoded_bytes, read_header, read_on

MAX_BYTES = 640 * 2**20
"""Of the voxels as float32, 550 along each axis: so that no run needs more than 2 GiB."""
MIN_VOXELS_PER_AXIS = 8
SUFFIXES = (".nii.gz", ".nii")

_MAX_DEFLATE_RATIO = 1032  # a property of the format: no stream expands more
_GZIP_LEVEL = 1
_DAMAGED = (BadGzipFile, EOFError, OverflowError, cast("type[Exception]", IsalError))  # its stub calls it an instance
_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


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


def check_size(shape: tuple[int, ...], name: str) -> None:
    """Refuse an image that is too small or too large to be worked on; `InputError`."""
    if min(shape) < 1:
        raise InputError(f"{name}: expected a 3-D image, got shape {shape}")
    if 1 in shape[:3]:
        raise InputError(f"{name}: expected a 3-D image, got a 2-D one of shape {shape}")
    if math.prod(shape) * 4 > MAX_BYTES:
        raise InputError(f"{name}: expected at most {MAX_BYTES // 4} voxels, got shape {shape}")
    if min(shape[:3]) < MIN_VOXELS_PER_AXIS:
        raise InputError(f"{name}: expected at least {MIN_VOXELS_PER_AXIS} voxels along each axis, got shape {shape}")


def stem(path: Path) -> str:
    """File name without .nii or .nii.gz.

    Examples
    --------
    >>> stem(Path("folder/head.nii.gz"))
    'head'
    """
    return next((path.name[: -len(s)] for s in SUFFIXES if path.name.lower().endswith(s)), path.name)


def load_volume(path: Path, modalities: Sequence[str] = ()) -> Volume:
    """Read a NIfTI image (``.nii``, ``.nii.gz``; NIfTI-1 or -2, any byte order, type and scaling).

    The header is judged before anything else is read and before memory is asked for, and a zipped file is read to its
    end, where its checksum stands.

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
        _check_kind(path)
        with path.open("rb") as raw:
            return _read(raw, modalities, str(path))
    except (FileNotFoundError, NotADirectoryError):
        what = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise InputError(f"{path}: {what}") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file") from None
    except _DAMAGED:
        raise InputError(f"{path}: file is truncated or damaged") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no file has such a name ({error})") from None


def _check_kind(path: Path) -> None:
    """Before it is opened: that of a pipe would wait for a writer."""
    mode = path.stat().st_mode
    for is_kind, kind in _NO_FILES:
        if is_kind(mode):
            raise InputError(f"{path}: expected a file, got {kind}")


def _read(raw: BinaryIO, modalities: Sequence[str], name: str) -> Volume:
    zipped = raw.read(2) == b"\x1f\x8b"
    length = raw.seek(0, 2)
    raw.seek(0)
    stream = cast("BinaryIO", igzip.IGzipFile(fileobj=raw, mode="rb")) if zipped else raw
    header = read_header(stream.read(LONGEST_START), name)
    shape = check_shape(header.shape, modalities, name)
    affine, remarks = world_affine(header.fields, shape, name)
    image_bytes = math.prod(shape) * header.dtype.itemsize
    offset = header.offset_in(image_bytes, decoded_bytes(raw, length) if zipped else length)
    if offset + image_bytes > length * (_MAX_DEFLATE_RATIO if zipped else 1):
        raise InputError(f"{name}: file is truncated or damaged: too small for an image of shape {shape}")
    stream.seek(offset)
    voxels, ranges = decode(stream, header, shape)
    if zipped:
        read_on(stream, name)
    return Volume(voxels, affine, header.fields, name, (*header.warnings, *remarks), ranges)


def check_shape(shape: tuple[int, ...], modalities: Sequence[str], name: str) -> tuple[int, ...]:
    """Check the shape of an image of some modalities; returns it without further axes of length 1.

    Raises
    ------
    InputError
        it has other axes, or is too small or too large.

    Examples
    --------
    >>> check_shape((64, 64, 32, 1), ["T1w"], "scan.nii")
    (64, 64, 32)
    """
    channels = (len(modalities),) if len(modalities) > 1 else ()
    while len(shape) > 3 + len(channels) and shape[-1] == 1:
        shape = shape[:-1]
    if channels and shape[3:] != channels:
        raise InputError(
            f"{name}: expected a 4-D image whose last axis holds {len(modalities)} modalities "
            f"({', '.join(modalities)}), got shape {shape}"
        )
    if len(shape) != 3 + len(channels):
        raise InputError(f"{name}: expected a 3-D image, got shape {shape}")
    check_size(shape, name)
    return shape


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
    like_header = like.header or _header_of(like)
    header = type(like_header)(endianness=like_header.endianness)
    for name in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                 "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"):  # fmt: skip
        header[name] = like_header[name]
    header.set_data_shape(labels.shape)
    header["pixdim"][:4] = like_header["pixdim"][:4]
    header.set_data_dtype(np.uint8)
    header.set_intent("label")
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["descrip"] = b"mixpriv segmentation"
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
    affine = np.diag((spacing_mm, spacing_mm, spacing_mm, 1.0))
    return bytes(nib.Nifti1Image(array, affine).to_bytes())


def write_nifti(path: Path, content: bytes) -> None:
    """Write an encoded NIfTI file, see `zipped_as_named`."""
    write_file(path, zipped_as_named(path, content))


def zipped_as_named(path: Path, content: bytes) -> bytes:
    """A file's bytes, zipped if its name ends with .gz; the same content gives the same bytes."""
    return bytes(igzip.compress(content, _GZIP_LEVEL, mtime=0)) if path.name.lower().endswith(".gz") else content
