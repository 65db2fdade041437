"""A DICOM series as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import InputError
from mixpriv.imaging.dicom.files import dicom_files, is_dicom, quiet, read_header, require_pydicom
from mixpriv.imaging.dicom.series import Series, choose, find_series, require_mr
from mixpriv.imaging.dicom.stack import Slice, slices_of, stacked
from mixpriv.imaging.files import Content, Ranges
from mixpriv.imaging.geometry import check_geometry
from mixpriv.imaging.size import check_shape


@dataclass(frozen=True)
class Source:
    """The images that a volume came from: what results in DICOM refer to.

    Attributes
    ----------
    headers : all attributes of each image but its pixels
    slices : in the order of the volume's last axis
    """

    headers: tuple[Any, ...] = field(repr=False)
    slices: tuple[Slice, ...] = field(repr=False)


def read_dicom(path: Path, modalities: Sequence[str], wanted: str | None = None) -> Content:
    """Read a series from a folder or from a file; see `mixpriv.imaging.volume.load_volume`.

    Parameters
    ----------
    path : a folder, with all below it, or a DICOM file: its series in its folder
    wanted : number or UID of the series; None chooses the one that is a 3-D T1w

    Raises
    ------
    InputError
        no series fits, several do, or it is no whole and regular volume.
    """
    files = dicom_files(path) if path.is_dir() else []
    require_pydicom()
    name = str(path)
    with quiet():
        if files:
            chosen, remarks = choose(find_series(files, path), wanted, path)
        else:
            chosen, remarks = require_mr(_series_of(path), path), ()
        headers = tuple(read_header(file) for file in chosen.files)
        ordered, affine = stacked(_slices(headers, name), name)
        shape = check_shape((*ordered[0].shape, len(ordered)), modalities, name)
        check_geometry(affine, shape, name)
        _require_whole(headers, ordered, name)
        voxels, ranges = _voxels(chosen.files, ordered, shape, name)
    return Content(voxels, affine, Source(headers, tuple(ordered)), remarks, ranges)


def _series_of(path: Path) -> Series:
    """The series of one file: that file if it has many frames, else all of it in the same folder."""
    alone = find_series([path], path)[0]
    if alone.images > 1:
        return alone
    beside = sorted(file for file in path.parent.iterdir() if is_dicom(file))
    return next(one for one in find_series(beside, path) if one.uid == alone.uid)


def _slices(headers: Sequence[Any], name: str) -> list[Slice]:
    try:
        return [one for image, header in enumerate(headers) for one in slices_of(header, image)]
    except Exception:  # a damaged header can make it raise anything
        raise InputError(f"{name}: an image lacks what a grey slice has: size, place or direction") from None


def _require_whole(headers: Sequence[Any], ordered: Sequence[Slice], name: str) -> None:
    """Refuse a series that says itself that it has more images; where it does not say, nobody can know."""
    said = str(headers[0].get("ImagesInAcquisition") or "")
    if said.isdecimal() and len(headers) > 1 and int(said) > len(ordered):
        raise InputError(f"{name}: slices are missing: expected {said}, got {len(ordered)}")


def _voxels(
    files: Sequence[Path], ordered: Sequence[Slice], shape: tuple[int, ...], name: str
) -> tuple[NDArray[np.float32], Ranges]:
    """The scaled voxels, (columns, rows, slices), one image in memory at a time."""
    voxels = np.empty(shape, np.float32, order="F")
    image, frames = -1, np.empty(0)
    for k, one in enumerate(ordered):
        if one.place[0] != image:
            image = one.place[0]
            frames = _pixels(files[image], name)
        plane = frames[one.place[1]]
        if plane.shape != one.shape[::-1]:
            raise InputError(f"{name}: an image has other pixels than its header says")
        voxels[:, :, k] = plane.T * np.float32(one.scaling[0]) + np.float32(one.scaling[1])
    return voxels, ((float(voxels.min()), float(voxels.max())),)


def _pixels(path: Path, name: str) -> NDArray[Any]:
    """The stored values of an image, (frames, rows, columns)."""
    try:
        pixels = np.asarray(require_pydicom().dcmread(path).pixel_array)
    except Exception:  # a damaged image, or one that nothing installed decodes
        raise InputError(f"{name}: the pixels of an image are missing, damaged or of an unknown compression") from None
    return pixels[None] if pixels.ndim == 2 else pixels
