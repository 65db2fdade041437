"""A crop around one region in the bundle's grid: put in the middle, its own axes kept, nothing extracted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.bundle import Bundle, Crop
from mixpriv.client.conform import Conformed, Grid, to_grid
from mixpriv.client.volume import Volume
from mixpriv.errors import InputError

_ROUNDING_MM = 0.5


def conform_crop(scan: Volume, bundle: Bundle) -> Conformed:
    """Put a crop in the middle of the bundle's grid; the mask is its field of view.

    Raises
    ------
    InputError
        the field of view is not that of such a crop, or it has no contrast.
    """
    assert bundle.crop is not None  # noqa: S101 - the bundle is one for crops
    axes, grid = _grid(scan, bundle)
    _check_size(scan, np.array(scan.voxels.shape)[axes] * scan.spacing_mm[axes], bundle.crop)
    image = to_grid(scan, grid)
    everywhere = replace(scan, voxels=np.ones_like(scan.voxels))
    mask = (to_grid(everywhere, grid) > 0.5).astype(np.uint8)
    low, high = kernels.robust_range(image, mask)
    if not low < high:
        raise InputError(f"{scan.name}: expected a crop with contrast, got one without")
    return Conformed(image, mask, (low, high), grid)


def _grid(scan: Volume, bundle: Bundle) -> tuple[NDArray[np.intp], Grid]:
    """Which array axis runs along R, A, S; and the grid, whose axes are these, turned to point that way.

    The crop lies in the middle by whole grid voxels, as in training: half a voxel off would blur it.
    """
    axes = _nearest_axes(scan.affine[:3, :3] / scan.spacing_mm)
    shape, spacing_mm = np.array(scan.voxels.shape)[axes], scan.spacing_mm[axes]
    directions = scan.affine[:3, :3][:, axes] / spacing_mm
    down = directions[range(3), range(3)] < 0
    corner = scan.affine[:3, 3] + (directions * spacing_mm) @ np.where(down, shape - 1, 0)
    directions = np.where(down, -directions, directions)
    size = shape * spacing_mm / bundle.spacing_mm
    start = np.floor((np.array(bundle.grid_shape) - size) / 2 + 1e-3)
    affine = np.eye(4)
    affine[:3, :3] = directions * bundle.spacing_mm
    # grid index start - 1/2 is the outer face of the first voxel
    affine[:3, 3] = corner - directions @ (spacing_mm / 2 + (start - 0.5) * bundle.spacing_mm)
    return axes, Grid(bundle.grid_shape, affine)


def _nearest_axes(directions: NDArray[np.float64]) -> NDArray[np.intp]:
    """Array axis (3,) for each of R, A, S: the permutation that turns least."""
    orders = [np.array(order) for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))]
    return max(orders, key=lambda order: float(np.abs(directions[range(3), order]).sum()))


def _check_size(scan: Volume, size_mm: NDArray[np.float64], crop: Crop) -> None:
    if (size_mm >= np.array(crop.min_mm) - _ROUNDING_MM).all() and (size_mm <= np.array(crop.max_mm) + 1e-3).all():
        return
    low, high, got = ("x".join(f"{mm:.0f}" for mm in sizes) for sizes in (crop.min_mm, crop.max_mm, size_mm))
    hint = "; a whole head is for the bundle brain-t1" if (size_mm > crop.max_mm).all() else ""
    raise InputError(f"{scan.name}: expected a crop around the {crop.region}, {low} to {high} mm, got {got} mm{hint}")
