"""Reads ``reference.npz``: a zip file of arrays, each of the element type and shape that a reference model has.

NumPy's own reader believes what such a file says of its sizes, and reads headers as Python literals.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.reading import read_file

MOST_BYTES = 2**26
_MOST_ARRAY_BYTES = 2**28
_MOST_DIRECTORY_BYTES = 2**14
_HEADER = re.compile(
    rb"\{'descr': '([<|][fiu][1248])', 'fortran_order': (True|False), 'shape': \(((?:\d{1,9},? ?){0,8})\), \} *\n"
)


class ArrayError(ValueError):
    """The file is not what it must be; the text says why."""


@dataclass(frozen=True)
class Kind:
    """What an array must be: element types that may stand in the file, and its number of axes."""

    dtypes: str
    ranks: tuple[int, ...]


KINDS: Mapping[str, Kind] = {
    "atlas": Kind("u1", (4,)),
    "step": Kind("f4 f8", (0,)),
    "tissue_of": Kind("u1", (1,)),
    "fold_rank": Kind("i1", (1,)),
    "intensity_range": Kind("f4", (2,)),
    "warp_mm": Kind("f4 f8 i8", (0,)),
    "grid_shape": Kind("i4 i8", (1,)),
    "spacing_mm": Kind("f4 f8 i8", (0,)),
    "further_ranges": Kind("f4 f8", (1, 3)),
}
"""The arrays of a reference model."""


def read_arrays(path: str | os.PathLike[str], kinds: Mapping[str, Kind] = KINDS) -> dict[str, NDArray[Any]]:
    """Read the arrays of a table from a file that has these and no others; the last may be missing.

    Raises
    ------
    InputError
        the file is missing, too large, or no regular one.
    ArrayError
        it is damaged or another file.
    """
    data = read_file(path, MOST_BYTES)
    _check_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, kinds)
            return {
                member.filename.removesuffix(".npy"): _array(
                    _content(archive, member), kinds[member.filename.removesuffix(".npy")], member.filename
                )
                for member in members
            }
    except ArrayError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise ArrayError(f"damaged: {type(error).__name__}") from None


def check_model(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse the arrays of a reference model that are out of range or do not fit together.

    Raises
    ------
    ArrayError
        naming the array and what it must be.
    """
    atlas, tissue_of, rank = arrays["atlas"], arrays["tissue_of"], arrays["fold_rank"]
    classes, painted = len(atlas), len(tissue_of)
    _require(min(atlas.shape) >= 2 and classes <= 128, "atlas: expected 2 to 128 classes on a grid")
    error = np.abs(atlas.sum(axis=0, dtype=np.int16) - np.int16(255)).max()
    _require(error <= (classes + 1) / 2, "atlas: expected probabilities that add up to 255 at each voxel")
    _require(classes <= painted <= 255 and tissue_of[0] == 0, "tissue_of: expected a value for each class, 0 first")
    _require(rank.shape == (classes,) and rank[0] == -1, "fold_rank: expected one for each class, -1 first")
    folded = set(rank[rank != -1].tolist())
    _require(folded == set(range(len(folded))) != set(), "fold_rank: expected 0, 1, ... and -1")
    ranges, further = arrays["intensity_range"], arrays["further_ranges"]
    for name, table in (("intensity_range", ranges), *(("further_ranges", table) for table in further)):
        _require(table.shape == (painted, 2), f"{name}: expected two values for each class")
        _require(bool((table[:, 0] <= table[:, 1]).all()), f"{name}: expected the lower value first")
        _require(table.min() >= -10 and table.max() <= 10, f"{name}: expected values from -10 to 10")
    grid = arrays["grid_shape"]
    _require(grid.shape == (3,) and grid.min() >= 2 and grid.max() <= 512, "grid_shape: expected 3 sizes from 2 to 512")
    for name, least, most in (("step", 0.25, 16), ("spacing_mm", 0.1, 10), ("warp_mm", 0, 20)):
        _require(least <= float(arrays[name]) <= most, f"{name}: expected {least} to {most}")
    off = np.abs(atlas.shape[1:] - grid / float(arrays["step"]))
    _require(bool(off.max() <= 1), f"atlas: expected the grid in steps of {arrays['step']}")


def _require(condition: bool | np.bool_, what: str) -> None:
    if not condition:
        raise ArrayError(what)


def _check_directory(data: bytes) -> None:
    """Refuse a file whose list of members is long, before it is read; it stands at the end, with nothing behind it."""
    end = data[-22:]
    if len(end) < 22 or end[:4] != b"PK\5\6" or end[20:] != b"\0\0":
        raise ArrayError("not a zip file")
    if struct.unpack_from("<I", end, 12)[0] > _MOST_DIRECTORY_BYTES or b"PK\6\7" in data[-42:-22]:
        raise ArrayError("too many members")


def _check_members(members: list[zipfile.ZipInfo], kinds: Mapping[str, Kind]) -> None:
    names = [member.filename for member in members]
    wanted = [f"{name}.npy" for name in kinds]
    if len(set(names)) < len(names) or set(names) not in (set(wanted), set(wanted[:-1])):
        raise ArrayError(f"expected the arrays {', '.join(kinds)}, each once")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise ArrayError("compressed in another way than zip's usual ones")
    if sum(member.file_size for member in members) > _MOST_ARRAY_BYTES:
        raise ArrayError(f"larger than {_MOST_ARRAY_BYTES} bytes when unpacked")


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        # one more than it says: no more is unpacked than that, and the end, where the sum is compared, is reached
        content = file.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise ArrayError("a member of another size than it says")
    return content


def _array(content: bytes, kind: Kind, name: str) -> NDArray[Any]:
    """An array in NumPy's format 1.0, read without NumPy's reader; its own memory."""
    start = 10 + struct.unpack_from("<H", content, 8)[0] if len(content) >= 10 else 0
    header = _HEADER.fullmatch(content[10:start])
    if content[:8] != b"\x93NUMPY\1\0" or header is None:
        raise ArrayError(f"{name}: not an array of numbers")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(n) for n in re.findall(rb"\d+", header[3]))
    if dtype.str[1:] not in kind.dtypes.split() or len(shape) not in kind.ranks:
        raise ArrayError(f"{name}: expected {kind.dtypes} of {' or '.join(map(str, kind.ranks))} axes")
    if len(content) - start != math.prod(shape) * dtype.itemsize:
        raise ArrayError(f"{name}: more or fewer values than its shape says")
    order = "F" if header[2] == b"True" else "C"
    array = np.frombuffer(content, dtype, offset=start).reshape(shape, order=order)  # type: ignore[call-overload]
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ArrayError(f"{name}: a value that is no finite number")
    return np.array(array)
