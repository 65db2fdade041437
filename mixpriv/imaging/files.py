"""Image files that somebody else made: opened, unzipped and decoded within limits, every failure one line."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from mixpriv.errors import InputError

MAX_OTHER_BYTES = 2**26
"""Of what is not voxels, decoded: extensions before them, whatever is behind them."""

Ranges = tuple[tuple[float, float], ...]
"""Lowest and highest voxel of each modality."""

_MAX_DEFLATE_RATIO = 1032  # a property of the format: no stream expands more
_CHUNK = 2**18  # voxels that are decoded at a time: they stay in the processor's cache
_GZIP_LEVEL = 1
_DAMAGED = (BadGzipFile, EOFError, OverflowError, cast("type[Exception]", IsalError))  # its stub calls it an instance
_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Content(NamedTuple):
    """What a reader found: the fields of a `Volume`.

    Attributes
    ----------
    voxels : (I, J, K) or (I, J, K, M) float32, Fortran order
    affine : (4, 4) voxel index to world mm (RAS+)
    header : of the file's format, kept for writing in the same grid; None if there is nothing to keep
    warnings : for the user
    ranges : lowest and highest voxel of each modality
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    header: Any
    warnings: tuple[str, ...]
    ranges: Ranges


@dataclass(frozen=True)
class ImageFile:
    """An open file; ``stream`` is at its first byte, unzipped; ``length`` is the file's own, bytes."""

    stream: BinaryIO
    raw: BinaryIO
    length: int
    zipped: bool
    name: str

    @property
    def decoded_bytes(self) -> int:
        """The length of what ``stream`` holds: of a zipped file of one member, what it says itself."""
        if not self.zipped:
            return self.length
        place = self.raw.tell()
        self.raw.seek(max(self.length - 4, 0))
        said = int.from_bytes(self.raw.read(4), "little")
        self.raw.seek(place)
        return said

    def voxels(
        self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], scaling: tuple[np.float32, np.float32]
    ) -> tuple[NDArray[np.float32], Ranges]:
        """Read the voxels, and a zipped file to its end, where its checksum stands.

        Parameters
        ----------
        offset : of the first, bytes of ``stream``
        scaling : slope and intercept, see `scale`

        Raises
        ------
        InputError
            the file is too small, which is seen before memory is asked for, or too much is behind the voxels.
        """
        end = offset + math.prod(shape) * dtype.itemsize
        if end > self.length * (_MAX_DEFLATE_RATIO if self.zipped else 1):
            raise InputError(f"{self.name}: file is truncated or damaged: too small for an image of shape {shape}")
        self.stream.seek(offset)
        found = _decode(self.stream, dtype, shape, scaling)
        if self.zipped:
            self._read_on()
        return found

    def _read_on(self) -> None:
        """Read what is behind the voxels: at the end gzip checks its sum."""
        for _ in range(0, MAX_OTHER_BYTES + 1, 2**20):
            if not self.stream.read(2**20):
                return
        raise InputError(f"{self.name}: more than {MAX_OTHER_BYTES} bytes behind the voxels of a single image")


@contextmanager
def opened(path: Path) -> Iterator[ImageFile]:
    """Open a file, zipped or not; what fails within the context names the file in one line.

    Raises
    ------
    InputError
        it is missing, no regular file, not permitted, truncated or damaged.
    """
    try:
        _check_kind(path)
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            length = raw.seek(0, 2)
            raw.seek(0)
            stream = cast("BinaryIO", igzip.IGzipFile(fileobj=raw, mode="rb")) if zipped else raw
            yield ImageFile(stream, raw, length, zipped, str(path))
    except (FileNotFoundError, NotADirectoryError):
        what = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise InputError(f"{path}: {what}") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file") from None
    except _DAMAGED:
        raise InputError(f"{path}: file is truncated or damaged") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _check_kind(path: Path) -> None:
    """Before it is opened: that of a pipe would wait for a writer."""
    try:
        mode = path.stat().st_mode
    except ValueError as error:
        raise InputError(f"{path}: no file has such a name ({error})") from None
    for is_kind, kind in _NO_FILES:
        if is_kind(mode):
            raise InputError(f"{path}: expected a file, got {kind}")


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


def _decode(
    stream: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...], scaling: tuple[np.float32, np.float32]
) -> tuple[NDArray[np.float32], Ranges]:
    """Decode the voxels a piece at a time: no more than the result is ever in memory. EOFError if some are missing."""
    voxels = np.empty(shape, np.float32, order="F")
    ranges = []
    for modality in voxels.reshape(math.prod(shape[:3]), -1, order="F").T:
        low, high = np.float32(np.inf), np.float32(-np.inf)
        for first in range(0, modality.size, _CHUNK):
            part = modality[first : first + _CHUNK]
            content = stream.read(part.size * dtype.itemsize)
            if len(content) < part.size * dtype.itemsize:
                raise EOFError
            with np.errstate(all="ignore"):
                part[...] = scale(np.frombuffer(content, dtype), *scaling)
                low, high = np.minimum(low, part.min()), np.maximum(high, part.max())  # which keep a NaN
        ranges.append((float(low), float(high)))
    return voxels, tuple(ranges)


def zipped_as_named(path: Path, content: bytes) -> bytes:
    """A file's bytes, zipped if its name ends with .gz or .mgz; the same content gives the same bytes."""
    zips = path.name.lower().endswith((".gz", ".mgz"))
    return bytes(igzip.compress(content, _GZIP_LEVEL, mtime=0)) if zips else content
