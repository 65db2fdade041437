"""FreeSurfer's format (.mgh, zipped .mgz): read with strict checks, and label maps written with equal geometry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader, header_dtype
from numpy.typing import NDArray

from mixpriv.errors import InputError
from mixpriv.imaging.files import Content, opened
from mixpriv.imaging.geometry import check_geometry, spacing_of
from mixpriv.imaging.size import check_shape

MGH_SUFFIXES = (".mgz", ".mgh.gz", ".mgh")

_START = 284  # bytes before the voxels
_FIELDS = header_dtype.itemsize  # bytes of them that mean something
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_GEOMETRY = ("delta", "Mdc", "Pxyz_c")
_UNIT_TOLERANCE = 0.01  # of a direction's length
_NO_ORIENTATION = (
    "the file tells no orientation (goodRASFlag is 0): taken as FreeSurfer does, coronal slices with the patient's "
    "right first"
)


@np.errstate(all="ignore")  # NaN and infinity are among what is looked for
def read_mgh(path: Path, modalities: Sequence[str]) -> Content:
    """Read a file of FreeSurfer; see `mixpriv.imaging.volume.load_volume`."""
    name = str(path)
    with opened(path) as file:
        start = file.stream.read(_START)
        fields = _fields(start, name)
        shape = check_shape(_shape(fields), modalities, name)
        affine = _affine(fields, name)
        check_geometry(affine, shape, f"{name}: delta, Mdc and Pxyz_c")
        dtype = np.dtype(_TYPES[int(fields["type"])])
        voxels, ranges = file.voxels(_START, dtype, shape, (np.float32(1), np.float32(0)))
    return Content(voxels, affine, fields, () if _tells_orientation(start) else (_NO_ORIENTATION,), ranges)


def _fields(start: bytes, name: str) -> Any:
    if len(start) < _START or start[:4] != b"\0\0\0\1":
        raise InputError(f"{name}: expected an MGH or MGZ image, got something else")
    fields = MGHHeader(start[:_FIELDS], check=False)
    if int(fields["type"]) not in _TYPES:
        raise InputError(f"{name}: type: expected integer or floating-point voxels, got others")
    if not _tells_orientation(start):  # what the fields hold then counts for nothing
        default = MGHHeader()
        for field in _GEOMETRY:
            fields[field] = default[field]
    return fields


def _tells_orientation(start: bytes) -> bool:
    """By goodRASFlag, which nibabel changes."""
    return int.from_bytes(start[28:30], "big", signed=True) > 0


def _shape(fields: Any) -> tuple[int, ...]:
    *grid, frames = (int(size) for size in fields["dims"])
    return tuple(grid) if frames == 1 else (*grid, frames)


def _affine(fields: Any, name: str) -> NDArray[np.float64]:
    lengths = spacing_of(fields["Mdc"].astype(np.float64).T)
    if not (np.abs(lengths - 1) <= _UNIT_TOLERANCE).all():
        raise InputError(f"{name}: Mdc: expected directions of length 1")
    if not (fields["delta"] > 0).all():
        raise InputError(f"{name}: delta: expected the size of a voxel along each axis, got 0, NaN or a negative one")
    return np.asarray(fields.get_affine(), dtype=np.float64)


def encode_mgh(labels: NDArray[np.uint8], affine: NDArray[np.float64], like: object = None) -> bytes:
    """Make an MGH file (not zipped) of a label map (I, J, K); ``like`` is a scan's header, whose geometry it keeps.

    Nothing else of a header is kept: times, angles and texts belong to the scan.

    Examples
    --------
    >>> content = encode_mgh(np.zeros((8, 9, 10), np.uint8), np.diag([-1.0, 1.0, 1.0, 1.0]))
    >>> from nibabel import MGHImage
    >>> image = MGHImage.from_bytes(content)
    >>> tuple(map(int, image.shape)), image.affine.tolist()[0]
    ((8, 9, 10), [-1.0, 0.0, 0.0, 0.0])
    """
    header = MGHHeader()
    header.set_data_shape(labels.shape)
    header.set_data_dtype(np.uint8)
    header["goodRASFlag"] = 1
    if isinstance(like, MGHHeader):
        for field in _GEOMETRY:
            header[field] = like[field]
    else:
        spacing = spacing_of(affine)
        header["delta"] = spacing
        header["Mdc"] = (affine[:3, :3] / spacing).T
        header["Pxyz_c"] = affine[:3, :3] @ (np.array(labels.shape) / 2) + affine[:3, 3]
    start, footer = header.binaryblock[:_FIELDS], header.binaryblock[_FIELDS:]
    return b"".join((start, bytes(_START - _FIELDS), labels.ravel(order="F").data, footer))
