"""A NIfTI file's header, judged by itself: what it says of the voxels, or one line that names the field at fault.

nibabel only tells where each field lies. Its reader walks through extensions before it looks at the header, which a
small file can make take minutes and gigabytes, and it mends some fields in silence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import nibabel as nib
import numpy as np

from mixpriv.errors import InputError
from mixpriv.imaging.files import MAX_OTHER_BYTES, Content, ImageFile, opened
from mixpriv.imaging.geometry import world_affine
from mixpriv.imaging.size import check_shape

LONGEST_START = 544
"""So many bytes at most, from the first on, are a header: NIfTI-2's and the mark of its extensions."""
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_OTHER_TYPES = {
    1: "1-bit",
    32: "complex",
    128: "colour or compound",
    1536: "128-bit floating-point",
    1792: "complex",
    2048: "complex",
    2304: "colour or compound",
}
_EXTENSION_MARK = 4  # bytes behind the header


@dataclass(frozen=True)
class Header:
    """What a file's header says of its voxels.

    Attributes
    ----------
    fields : all of the header, as nibabel has it
    shape : of the array, 1 to 7 axes
    dtype : of a voxel in the file
    offset : of the first voxel, bytes from the file's first; None if the header leaves it open
    scaling : slope and intercept of the voxels, or 1 and 0
    warnings : for the user
    """

    fields: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    scaling: tuple[np.float32, np.float32]
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Of the header itself, bytes."""
        return int(self.fields.sizeof_hdr)

    def offset_in(self, image_bytes: int, decoded_bytes: int) -> int:
        """Where the voxels begin: where the header says, or else behind it, which some writers forget the mark in.

        Parameters
        ----------
        image_bytes : length of the voxels
        decoded_bytes : length of the whole file, not zipped
        """
        if self.offset is not None:
            return self.offset
        return self.size if decoded_bytes == self.size + image_bytes else self.size + _EXTENSION_MARK


@np.errstate(all="ignore")  # NaN and infinity are among what is looked for
def read_header(start: bytes, name: str, *, pair: bool = False) -> Header:
    """Judge a header by the file's first bytes, `LONGEST_START` or all that there are.

    With ``pair`` it is one whose voxels are in a file of their own, from whose first byte their offset counts.

    Raises
    ------
    InputError
        it is not such a header, or a field makes no sense.
    """
    fields = _fields(start, name, pair=pair)
    warnings = []
    dtype = dtype_of(fields, name)
    if int(fields["bitpix"]) not in (0, 8 * dtype.itemsize):
        warnings.append("bitpix and datatype disagree: datatype is taken")
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        slope, inter = 1.0, 0.0
    elif not np.isfinite(inter):
        inter = 0.0
    scaling = np.float32(slope), np.float32(inter)
    offset = _offset(fields, name, 0 if pair else int(fields.sizeof_hdr))
    return Header(fields, shape_of(fields, name), dtype, offset, scaling, tuple(warnings))


def is_pair(start: bytes) -> bool:
    """Whether a file's first bytes are the header of a NIfTI image whose voxels are in another file."""
    return start[344:347] == b"ni1" or start[4:7] == b"ni2"


def _fields(start: bytes, name: str, *, pair: bool) -> Any:
    """The header of the kind and byte order that its first four bytes, its length, tell."""
    if is_pair(start) and not pair:
        _refuse(name, "the header of an image whose voxels are in another file (.hdr and .img)")
    if not is_pair(start) and start[344:347] != b"n+1" and start[4:7] != b"n+2":
        _refuse(name, "something else")
    kind: Any = nib.Nifti2Header if start[4:7] in (b"n+2", b"ni2") else nib.Nifti1Header
    size = kind.sizeof_hdr
    if len(start) < size:
        raise InputError(f"{name}: file is truncated or damaged: it ends within the header")
    for order, sign in (("little", "<"), ("big", ">")):
        if int.from_bytes(start[:4], order) == size:  # type: ignore[arg-type]
            return kind(start[:size], sign, check=False)
    raise InputError(f"{name}: sizeof_hdr: expected {size}, the length of this NIfTI header")


def _refuse(name: str, got: str) -> NoReturn:
    raise InputError(f"{name}: expected a NIfTI image (.nii or .nii.gz), got {got}")


def shape_of(fields: Any, name: str) -> tuple[int, ...]:
    """The shape that a header of NIfTI or Analyze tells."""
    axes = int(fields["dim"][0])
    if not 1 <= axes <= 7:
        raise InputError(f"{name}: dim[0]: expected a number of axes from 3 to 7, got another")
    shape = [int(size) for size in fields["dim"][1 : axes + 1]]
    return (*shape[:3], *(max(size, 1) for size in shape[3:]))  # some writers leave 0 for an axis that is not used


def dtype_of(fields: Any, name: str) -> np.dtype[Any]:
    """The type of a voxel that a header of NIfTI or Analyze tells."""
    code = int(fields["datatype"])
    if code not in _TYPES:
        kind = _OTHER_TYPES.get(code, "unknown")
        raise InputError(f"{name}: datatype: expected integer or floating-point voxels, got {kind} ones")
    return np.dtype(_TYPES[code]).newbyteorder(fields.endianness)


def _offset(fields: Any, name: str, least: int) -> int | None:
    offset = fields["vox_offset"].item()
    if offset == 0:
        return None if least else 0
    if not least <= offset <= least + MAX_OTHER_BYTES or offset != int(offset):
        raise InputError(
            f"{name}: vox_offset: expected 0 or a whole number of bytes from {least} to {least + MAX_OTHER_BYTES}"
        )
    return int(offset)


def read_nifti(path: Path, modalities: Sequence[str]) -> Content:
    """Read a single file (``.nii``, ``.nii.gz``); see `mixpriv.imaging.volume.load_volume`."""
    with opened(path) as file:
        return content_of(read_header(file.stream.read(LONGEST_START), file.name), file, modalities, file.name)


def content_of(header: Header, file: ImageFile, modalities: Sequence[str], name: str) -> Content:
    """Read what a header says of the voxels in a file; ``name`` is that of the header, for messages."""
    shape = check_shape(header.shape, modalities, name)
    affine, remarks = world_affine(header.fields, shape, name)
    image_bytes = math.prod(shape) * header.dtype.itemsize
    offset = header.offset_in(image_bytes, file.decoded_bytes)
    voxels, ranges = file.voxels(offset, header.dtype, shape, header.scaling)
    return Content(voxels, affine, header.fields, (*header.warnings, *remarks), ranges)
