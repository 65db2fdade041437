"""What a scan's own grid shows: whether the brain is cut off, and whether its values are those of an image at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixpriv.imaging.resample import Conformed
from mixpriv.imaging.volume import Volume

_EDGE_MM = 3.0
_EVERY = 2  # voxels of the bundle's grid along each axis: one of eight is looked at
_EMPTY = 0.995  # of a plane has one value: padding, or what was set to 0
_AROUND_MM = 30.0


def edge_cm2(scan: Volume, conformed: Conformed) -> float:
    """Area of the brain in the plane where the field of view ends, cm², at the side where it is largest.

    Planes of one value at its sides do not belong to the field of view.
    """
    places = np.argwhere(conformed.mask[::_EVERY, ::_EVERY, ::_EVERY]) * _EVERY
    to_scan = np.linalg.solve(scan.affine, conformed.grid.affine)
    area_per_place = conformed.grid.voxel_ml * _EVERY**3 / (_EDGE_MM / 10)
    largest = 0
    for axis in range(3):
        first, last = _extent(scan.modalities[0].voxels, axis)
        index = places @ to_scan[axis, :3] + to_scan[axis, 3]
        near = _EDGE_MM / float(scan.spacing_mm[axis])
        # half a voxel farther out is where the field of view really ends
        beyond = np.count_nonzero(index < first - 0.5 + near), np.count_nonzero(index > last + 0.5 - near)
        largest = max(largest, *beyond)
    return largest * area_per_place


def _extent(voxels: NDArray[np.float32], axis: int) -> tuple[int, int]:
    """First and last plane along an axis that hold more than one value."""
    size = voxels.shape[axis]
    ends = []
    for planes in (range(size), range(size - 1, -1, -1)):
        ends.append(next((n for n in planes if not _is_empty(np.take(voxels, n, axis))), planes[0]))
    return ends[0], ends[1]


def _is_empty(plane: NDArray[np.float32]) -> bool:
    return bool(np.count_nonzero(plane == plane.flat[0]) >= _EMPTY * plane.size)


def flat_percent(scan: Volume, conformed: Conformed) -> float:
    """Share of voxels, in %, in the middle of the brain that have exactly the value of a neighbour along every axis."""
    centre = np.linalg.solve(
        scan.affine, conformed.grid.affine @ np.append((np.array(conformed.grid.shape) - 1) / 2, 1.0)
    )[:3]
    box = []
    for axis, middle in enumerate(centre):
        half = max(2, round(_AROUND_MM / float(scan.spacing_mm[axis])))
        start = int(np.clip(round(middle) - half, 0, max(scan.shape[axis] - 2 * half, 0)))
        box.append(slice(start, start + 2 * half))
    part = scan.modalities[0].voxels[tuple(box)]
    inner = part[1:, 1:, 1:]
    same = (inner == part[:-1, 1:, 1:]) & (inner == part[1:, :-1, 1:]) & (inner == part[1:, 1:, :-1])
    return 100 * np.count_nonzero(same) / max(inner.size, 1)
