"""Where voxels lie: from the fields of a NIfTI header to millimetres, and what the geometry of a scan can be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import InputError

MIN_SPACING_MM, MAX_SPACING_MM = 0.05, 20.0
MIN_EXTENT_MM, MAX_EXTENT_MM = 16.0, 600.0
MAX_ORIGIN_MM = 10_000.0

_MIN_DETERMINANT = 0.5  # of the affine's unit axes: 1 is orthogonal, 0 is flat; a tilted gantry reaches .87
_SIZE_TOLERANCE = 0.01  # 0.94 for 0.9375 is rounding
_QUATERNION_TOLERANCE = 0.01  # of b² + c² + d² above 1; more is no rounding
_MM_PER_UNIT = {1: ("metres", 1000.0), 3: ("microns", 0.001)}
_CODES = range(6)  # of a qform or an sform; 0 is none
_ALIGNED = 2  # what any other is taken for: nibabel would not read a file that keeps it as it is
_TEMPLATE_CODE = 3  # from here on the sform leads to a template's space: Talairach, MNI, another


@np.errstate(over="ignore")
def spacing_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of neighbouring voxels along each array axis, (3,).

    Examples
    --------
    >>> spacing_of(np.diag([-2.0, 3.0, 4.0, 1.0])).tolist()
    [2.0, 3.0, 4.0]
    """
    return np.asarray(np.sqrt((affine[:3, :3] ** 2).sum(axis=0)))


def check_geometry(affine: NDArray[np.float64], shape: tuple[int, ...], name: str) -> None:
    """Refuse what cannot be the geometry of a scan of this shape, (I, J, K) or more; ``name`` is for the message.

    Raises
    ------
    InputError
        the affine (4, 4) is not finite, is singular or sheared, or gives voxels, a field of view or a place that no
        scan has.

    Examples
    --------
    >>> check_geometry(np.diag([1.0, 1.0, 0.0, 1.0]), (64, 64, 64), "scan.nii")
    Traceback (most recent call last):
    ...
    mixpriv.errors.InputError: scan.nii: expected voxels of 0.05 to 20 mm, got other spacings
    """
    if not np.isfinite(affine).all():
        raise InputError(f"{name}: affine has NaN or infinite entries")
    spacing = spacing_of(affine)
    if spacing.min() < MIN_SPACING_MM or spacing.max() > MAX_SPACING_MM:
        raise InputError(f"{name}: expected voxels of {MIN_SPACING_MM} to {MAX_SPACING_MM:.0f} mm, got other spacings")
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < _MIN_DETERMINANT:
        raise InputError(f"{name}: affine is singular or strongly sheared")
    extent = spacing * shape[:3]
    if extent.min() < MIN_EXTENT_MM or extent.max() > MAX_EXTENT_MM:
        raise InputError(
            f"{name}: expected a field of view of {MIN_EXTENT_MM:.0f} to {MAX_EXTENT_MM:.0f} mm along each axis, "
            f"got a smaller or larger one with shape {tuple(shape)}"
        )
    if np.abs(affine[:3, 3]).max() > MAX_ORIGIN_MM:
        raise InputError(f"{name}: expected the first voxel within {MAX_ORIGIN_MM / 1000:.0f} m of the origin")


@np.errstate(all="ignore")  # NaN and infinity are among what is looked for
def world_affine(header: Any, shape: tuple[int, ...], name: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Find the affine (4, 4) to world mm that a NIfTI header means, and what the user should know about it.

    As NIfTI has it, the sform counts, without one the qform, without both the voxel sizes. Fields that can be read in
    one way only are mended in the header, so that what is written in the same grid can be read by every tool.

    Raises
    ------
    InputError
        the fields that are needed contradict each other or make no sense: the message names them.
    """
    for field in ("qform_code", "sform_code"):
        code = int(header[field])
        header[field] = code if code in _CODES else _ALIGNED if code > 0 else 0
    pixdim = header["pixdim"]
    warnings = []
    if (pixdim[1:4] < 0).any():
        warnings.append("pixdim is negative: taken without its sign")
    pixdim[0] = -1 if pixdim[0] < 0 else 1  # a 0 means 1 here
    sizes = np.abs(pixdim[1:4].astype(np.float64))
    sizes[~np.isfinite(sizes) | (sizes == 0)] = np.nan
    pixdim[1:4] = sizes
    source = _chosen(header, sizes, warnings, name)
    if source == "sform":
        affine = header.get_sform()
        pixdim[1:4] = np.where(np.isnan(sizes), spacing_of(affine), pixdim[1:4])
    elif np.isnan(sizes).any():
        raise InputError(f"{name}: pixdim: expected the size of a voxel along each axis, got 0, NaN or infinity")
    elif source == "qform":
        _mend_quaternion(header, name)
        affine = header.get_qform()
    else:
        affine = header.get_base_affine()
    affine, unit = _in_mm(np.asarray(affine, dtype=np.float64), int(header["xyzt_units"]) & 7, warnings)
    check_geometry(affine, shape, f"{name}: {source}{unit}")
    return affine, tuple(warnings)


def _chosen(header: Any, sizes: NDArray[np.float64], warnings: list[str], name: str) -> str:
    """Say which fields tell where the voxels lie: sform, qform or pixdim."""
    sform, has_qform = header.get_sform(), bool(header["qform_code"])
    without_sform = "qform" if has_qform else "pixdim"
    if not header["sform_code"]:
        return without_sform
    if not sform[:3, :3].any():
        if not has_qform:
            raise InputError(f"{name}: sform_code says that there is an sform, but srow_x, srow_y and srow_z are 0")
        header["sform_code"] = 0
        return without_sform
    if not np.isfinite(sform).all():
        return "sform"  # to be refused by that name
    ratio = spacing_of(sform) / sizes
    if (np.abs(ratio - 1) > _SIZE_TOLERANCE).any():  # of a size that is not known nothing is said
        if int(header["sform_code"]) < _TEMPLATE_CODE or not has_qform:
            raise InputError(f"{name}: sform (srow_x, srow_y, srow_z) and pixdim disagree about the size of a voxel")
        warnings.append("sform leads to a template of another size than pixdim says: the qform is used")
        return without_sform
    if has_qform and float(header["pixdim"][0]) * np.linalg.det(sform[:3, :3]) < 0:
        warnings.append("sform and qform (pixdim[0]) disagree about left and right: the sform is used")
    return "sform"


def _mend_quaternion(header: Any, name: str) -> None:
    """Shorten a quaternion that rounding made too long for a real first part, which then is 0."""
    fields = ("quatern_b", "quatern_c", "quatern_d")
    parts = np.array([float(header[field]) for field in fields])
    square = float((parts**2).sum())
    if not square <= 1 + _QUATERNION_TOLERANCE:
        raise InputError(f"{name}: quatern_b, quatern_c and quatern_d (qform): expected parts of a unit quaternion")
    if not all(np.isfinite(header[field]) for field in ("qoffset_x", "qoffset_y", "qoffset_z")):
        raise InputError(f"{name}: qoffset_x, qoffset_y and qoffset_z (qform): expected finite numbers")
    if square > 1:
        for field, part in zip(fields, parts / np.sqrt(square), strict=True):
            header[field] = part


def _in_mm(affine: NDArray[np.float64], code: int, warnings: list[str]) -> tuple[NDArray[np.float64], str]:
    """The affine in mm, and the unit for a message; no voxel has a size that could be meant in two units."""
    unit, factor = _MM_PER_UNIT.get(code, ("mm", 1.0))
    if factor == 1.0:
        return affine, ""
    spacing = spacing_of(affine)
    if spacing.min() >= MIN_SPACING_MM and spacing.max() <= MAX_SPACING_MM:
        warnings.append(f"xyzt_units says {unit}, which the size of a voxel contradicts: taken as mm")
        return affine, ""
    return np.diag([factor, factor, factor, 1.0]) @ affine, f" in {unit} (xyzt_units)"
