"""A crop around one region in the bundle's grid: put in the middle, its own axes kept, nothing extracted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixpriv.bundle import DEFAULT_BUNDLE, Bundle, Crop
from mixpriv.errors import InputError
from mixpriv.imaging.device import CPU, Device
from mixpriv.imaging.resample import Conformed, Grid, sample, to_grid
from mixpriv.imaging.volume import Image, Volume

_ROUNDING_MM = 0.5


def conform_crop(scan: Volume, bundle: Bundle, device: Device = CPU) -> Conformed:
    """Put a crop in the middle of the bundle's grid; the mask is its field of view.

    Raises
    ------
    InputError
        the field of view is not that of such a crop, or it has no contrast.
    """
    assert bundle.crop is not None  # noqa: S101 - the bundle is one for crops
    upright = turned(scan)
    _check_size(upright, bundle.crop)
    # sampled at no place in the world: how a file's origin is rounded must not change a byte
    own = replace(upright, affine=np.diag([*upright.spacing_mm, 1.0]))
    place = _middle(own, bundle)
    everywhere = Image(np.ones(own.shape, np.float32, order="F"), own.affine)
    mask = (to_grid(everywhere, place) > 0.5).astype(np.uint8)
    to_world = upright.affine / np.append(upright.spacing_mm, 1.0)
    target = sample(own, place, mask, Grid(bundle.grid_shape, to_world @ place.affine), device)
    for modality, (low, high) in zip(scan.modalities, target.intensity_ranges, strict=True):
        if not low < high:
            raise InputError(f"{modality.name}: expected a crop with contrast, got one without")
    return target


def turned(scan: Volume) -> Volume:
    """The same scan with its array axes in the order R, A, S and pointing that way, as nearly as they do."""
    axes = _nearest_axes(scan.affine[:3, :3] / scan.spacing_mm)
    voxels = scan.voxels.transpose([*axes, *range(3, scan.voxels.ndim)])
    affine = scan.affine[:, [*axes, 3]]
    for axis in range(3):
        if affine[axis, axis] < 0:
            voxels = np.flip(voxels, axis)
            affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
            affine[:3, axis] *= -1
    return replace(scan, voxels=voxels, affine=affine)


def _middle(own: Volume, bundle: Bundle) -> Grid:
    """The grid around a crop whose first voxel is at 0 mm."""
    start = first_voxel(np.array(own.shape) * own.spacing_mm / bundle.spacing_mm, bundle.grid_shape)
    affine = np.diag([bundle.spacing_mm] * 3 + [1.0])
    # grid index start - 1/2 is the outer face of the first voxel
    affine[:3, 3] = -own.spacing_mm / 2 - (start - 0.5) * bundle.spacing_mm
    return Grid(bundle.grid_shape, affine)


def first_voxel(size: ArrayLike, shape: ArrayLike) -> NDArray[np.intp]:
    """Grid index (3,) at which a crop of a size in grid voxels begins: in the middle, rounded down.

    By whole voxels: a crop of the grid's spacing would be blurred by half of one.
    """
    return np.asarray(np.floor((np.asarray(shape) - np.asarray(size)) / 2 + 1e-3), dtype=np.intp)


def _nearest_axes(directions: NDArray[np.float64]) -> NDArray[np.intp]:
    """Array axis (3,) for each of R, A, S: the permutation that turns least."""
    orders = [np.array(order) for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))]
    return max(orders, key=lambda order: float(np.abs(directions[range(3), order]).sum()))


def _check_size(scan: Volume, crop: Crop) -> None:
    size_mm = np.array(scan.shape) * scan.spacing_mm
    if (size_mm >= np.array(crop.min_mm) - _ROUNDING_MM).all() and (size_mm <= np.array(crop.max_mm) + 1e-3).all():
        return
    low, high, got = ("x".join(f"{mm:.0f}" for mm in sizes) for sizes in (crop.min_mm, crop.max_mm, size_mm))
    hint = f"; a whole head is for the bundle {DEFAULT_BUNDLE}" if (size_mm > crop.max_mm).all() else ""
    raise InputError(f"{scan.name}: expected a crop around the {crop.region}, {low} to {high} mm, got {got} mm{hint}")
