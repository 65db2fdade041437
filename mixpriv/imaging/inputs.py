"""What Python code may give as a scan: a path, a nibabel image, an array with its affine, or a `Volume`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixpriv.errors import InputError
from mixpriv.imaging.files import scale
from mixpriv.imaging.geometry import world_affine
from mixpriv.imaging.size import check_shape
from mixpriv.imaging.volume import Volume, load_volume

Scan = str | os.PathLike[str] | nib.spatialimages.SpatialImage | tuple[ArrayLike, ArrayLike] | Volume
"""A path, a nibabel image, (voxels, affine), or a volume. Voxels are (I, J, K), or (I, J, K, M) of M modalities; the
affine (4, 4) leads from the index of a voxel to millimetres (R, A, S)."""

_UNREADABLE = (OSError, EOFError, ValueError, TypeError, zlib.error, nib.filebasedimages.ImageFileError)


def volume_of(scan: Scan, modalities: Sequence[str] = (), series: str | None = None) -> Volume:
    """Make a checked volume of a scan; ``modalities`` and ``series`` as of `load_volume`.

    A NIfTI image of nibabel gives the same voxels, affine and warnings as its file: to the ledger both are one scan.

    Raises
    ------
    InputError
        it is none of these, or its voxels or geometry are not those of a scan.

    Examples
    --------
    >>> voxels = np.arange(16**3).reshape(16, 16, 16)
    >>> volume_of((voxels, np.diag([2.0, 2.0, 2.0, 1.0]))).shape
    (16, 16, 16)
    >>> volume_of(nib.Nifti1Image(voxels.astype(np.int16), np.diag([-2.0, 2.0, 2.0, 1.0]))).spacing_mm.tolist()
    [2.0, 2.0, 2.0]
    """
    if isinstance(scan, Volume):
        check_shape(scan.voxels.shape, modalities, scan.name)
        return scan
    if isinstance(scan, str | os.PathLike):
        return load_volume(_path(scan), modalities, series)
    if isinstance(scan, nib.spatialimages.SpatialImage):
        return _of_image(scan, modalities)
    if isinstance(scan, tuple) and len(scan) == 2:
        array, affine = _array(scan[0], "voxels"), _array(scan[1], "affine")
        return Volume(_float32(array, modalities, "array"), np.array(affine, dtype=np.float64), None, "array")
    raise InputError(f"scan: expected a path, a nibabel image or (array, affine), got {type(scan).__name__}")


def _path(scan: str | os.PathLike[str]) -> Path:
    name = os.fspath(scan)
    if not isinstance(name, str):
        raise InputError(f"scan: expected the path as text, got {type(name).__name__}")
    if not name:
        raise InputError("scan: expected a file or folder, got ''")
    return Path(name)


def _of_image(image: nib.spatialimages.SpatialImage, modalities: Sequence[str]) -> Volume:
    name = image.get_filename() or "image"
    check_shape(image.shape, modalities, name)  # before anything is loaded
    if not isinstance(image.header, nib.Nifti1Header):
        affine = np.array(_array(image.affine, f"{name}: affine"), dtype=np.float64)
        return Volume(_float32(_array(image.dataobj, name), modalities, name), affine, None, name)
    kind: Any = nib.Nifti2Image if isinstance(image.header, nib.Nifti2Header) else nib.Nifti1Image
    header = kind(image.dataobj, image.affine, image.header).header  # a copy that agrees with the affine
    affine, warnings = world_affine(header, image.shape, name)
    return Volume(_float32(_voxels(image.dataobj, name), modalities, name), affine, header, name, warnings)


def _voxels(data: Any, name: str) -> NDArray[Any]:
    """Voxels of a NIfTI image, scaled as those of its file."""
    if not hasattr(data, "get_unscaled"):
        return _array(data, name)
    try:
        stored = data.get_unscaled()
    except _UNREADABLE:
        raise InputError(f"{name}: file is missing, truncated or damaged") from None
    with np.errstate(all="ignore"):
        return scale(stored, np.float32(data.slope), np.float32(data.inter)) if stored.dtype.kind in "iuf" else stored


def _array(values: Any, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except _UNREADABLE:
        raise InputError(f"{name}: expected an array of numbers") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: expected an array of real numbers, got {type(values).__name__} of {array.dtype}")
    return array


def _float32(array: NDArray[Any], modalities: Sequence[str], name: str) -> NDArray[np.float32]:
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: expected real numbers, got {array.dtype}")
    shape = check_shape(array.shape, modalities, name)
    with np.errstate(all="ignore"):  # what becomes infinite is refused later
        return np.asfortranarray(array.reshape(shape), dtype=np.float32)
