"""A NIfTI file's header, judged by itself: what it says of the voxels, or one line that names the field at fault.

nibabel only tells where each field lies. Its reader walks through extensions before it looks at the header, which a
small file can make take minutes and gigabytes, and it mends some fields in silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import InputError

LONGEST_START = 544
"""So many bytes at most, from the first on, are a header: NIfTI-2's and the mark of its extensions."""
MAX_OTHER_BYTES = 2**26
"""Of what is not voxels, decoded: extensions before them, whatever is behind them."""

Ranges = tuple[tuple[float, float], ...]
"""Lowest and highest voxel of each modality."""

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
_CHUNK = 2**18  # voxels that are decoded at a time: they stay in the processor's cache


@dataclass(frozen=True)
class Header:
    """What a file's header says of its voxels.

    Attributes
    ----------
    fields : all of the header, as nibabel has it
    shape : of the array, 1 to 7 axes
    dtype : of a voxel in the file
    offset : of the first voxel, bytes from the file's first; None if the header leaves it open
    slope, inter : by which the voxels are scaled, or 1 and 0
    warnings : for the user
    """

    fields: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    slope: np.float32
    inter: np.float32
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Of the header itself, bytes."""
        return int(self.fields.sizeof_hdr)

    def offset_in(self, image_bytes: int, decoded_bytes: int | None) -> int:
        """Where the voxels begin: where the header says, or else behind it, which some writers forget the mark in.

        Parameters
        ----------
        image_bytes : length of the voxels
        decoded_bytes : length of the whole file, not zipped, if it is known
        """
        if self.offset is not None:
            return self.offset
        return self.size if decoded_bytes == self.size + image_bytes else self.size + _EXTENSION_MARK

    def scaled(self, content: bytes) -> NDArray[Any]:
        """Turn bytes of the file into voxels."""
        return scale(np.frombuffer(content, self.dtype), self.slope, self.inter)


def scale(voxels: NDArray[Any], slope: np.float32, inter: np.float32) -> NDArray[Any]:
    """Scale voxels as a header says: always alike, since a digest over the result names the scan's content.

    Examples
    --------
    >>> scale(np.array([1, 2], np.int16), np.float32(0.5), np.float32(-1))
    array([-0.5,  0. ], dtype=float32)
    """
    # arrays and not scalars: with these NumPy chooses the precision alike in all its versions
    if slope != 1:
        voxels = voxels * np.array([slope])
    return voxels if inter == 0 else voxels + np.array([inter])


@np.errstate(all="ignore")  # NaN and infinity are among what is looked for
def read_header(start: bytes, name: str) -> Header:
    """Judge a header by the file's first bytes, `LONGEST_START` or all that there are.

    Raises
    ------
    InputError
        it is not the header of a single NIfTI file, or a field makes no sense.
    """
    fields = _fields(start, name)
    warnings = []
    dtype = _dtype(fields, name)
    if int(fields["bitpix"]) not in (0, 8 * dtype.itemsize):
        warnings.append("bitpix and datatype disagree: datatype is taken")
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        slope, inter = 1.0, 0.0
    elif not np.isfinite(inter):
        inter = 0.0
    scaling = np.float32(slope), np.float32(inter)
    return Header(fields, _shape(fields, name), dtype, _offset(fields, name), *scaling, tuple(warnings))


def _fields(start: bytes, name: str) -> Any:
    """The header of the kind and byte order that its first four bytes, its length, tell."""
    one, two = start[344:347], start[4:7]
    if one == b"ni1" or two == b"ni2":
        _refuse(name, "the header of an image whose voxels are in another file (.hdr and .img)")
    if one != b"n+1" and two != b"n+2":
        _refuse(name, "something else")
    kind: Any = nib.Nifti2Header if two == b"n+2" else nib.Nifti1Header
    size = kind.sizeof_hdr
    if len(start) < size:
        raise InputError(f"{name}: file is truncated or damaged: it ends within the header")
    for order, sign in (("little", "<"), ("big", ">")):
        if int.from_bytes(start[:4], order) == size:  # type: ignore[arg-type]
            return kind(start[:size], sign, check=False)
    raise InputError(f"{name}: sizeof_hdr: expected {size}, the length of this NIfTI header")


def _refuse(name: str, got: str) -> NoReturn:
    raise InputError(f"{name}: expected a NIfTI image (.nii or .nii.gz), got {got}")


def _shape(fields: Any, name: str) -> tuple[int, ...]:
    axes = int(fields["dim"][0])
    if not 1 <= axes <= 7:
        raise InputError(f"{name}: dim[0]: expected a number of axes from 3 to 7, got another")
    shape = [int(size) for size in fields["dim"][1 : axes + 1]]
    return (*shape[:3], *(max(size, 1) for size in shape[3:]))  # some writers leave 0 for an axis that is not used


def _dtype(fields: Any, name: str) -> np.dtype[Any]:
    code = int(fields["datatype"])
    if code not in _TYPES:
        kind = _OTHER_TYPES.get(code, "unknown")
        raise InputError(f"{name}: datatype: expected integer or floating-point voxels, got {kind} ones")
    return np.dtype(_TYPES[code]).newbyteorder(fields.endianness)


def _offset(fields: Any, name: str) -> int | None:
    offset = fields["vox_offset"].item()
    if offset == 0:
        return None
    size = int(fields.sizeof_hdr)
    if not size <= offset <= size + MAX_OTHER_BYTES or offset != int(offset):
        raise InputError(
            f"{name}: vox_offset: expected 0 or a whole number of bytes from {size} to {size + MAX_OTHER_BYTES}"
        )
    return int(offset)


def decoded_bytes(raw: BinaryIO, length: int) -> int:
    """What a zipped file of one member says of its length; the place in the file is as before."""
    place = raw.tell()
    raw.seek(max(length - 4, 0))
    said = int.from_bytes(raw.read(4), "little")
    raw.seek(place)
    return said


def decode(stream: BinaryIO, header: Header, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], Ranges]:
    """Decode the voxels a piece at a time: no more than the result is ever in memory. EOFError if some are missing."""
    voxels = np.empty(shape, np.float32, order="F")
    ranges = []
    for modality in voxels.reshape(math.prod(shape[:3]), -1, order="F").T:
        low, high = np.float32(np.inf), np.float32(-np.inf)
        for first in range(0, modality.size, _CHUNK):
            part = modality[first : first + _CHUNK]
            content = stream.read(part.size * header.dtype.itemsize)
            if len(content) < part.size * header.dtype.itemsize:
                raise EOFError
            with np.errstate(all="ignore"):
                part[...] = header.scaled(content)
                low, high = np.minimum(low, part.min()), np.maximum(high, part.max())  # which keep a NaN
        ranges.append((float(low), float(high)))
    return voxels, tuple(ranges)


def read_on(stream: BinaryIO, name: str) -> None:
    """Read what is behind the voxels: at the end gzip checks its sum, but not for the sake of a file without one."""
    for _ in range(0, MAX_OTHER_BYTES + 1, 2**20):
        if not stream.read(2**20):
            return
    raise InputError(f"{name}: more than {MAX_OTHER_BYTES} bytes behind the voxels of a single image")
