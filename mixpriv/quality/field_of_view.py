"""What a scan's own grid shows: whether the brain is cut off, and whether its values are those of an image at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixpriv.imaging.resample import Conformed
from mixpriv.imaging.volume import Volume

_STRIPPED_MM, _HEAD_MM = 3.0, 12.0
_TISSUE, _HEAD_SHARE = 0.15, 0.05
"""Of the brain's range, and of the voxels of the bundle's grid outside the brain: in a head a third are brighter."""

_EVERY = 2  # voxels of the bundle's grid along each axis: one of eight is looked at
_EMPTY = 0.995  # of a plane has one value: padding, or what was set to 0
_SAMPLED = 64  # lines of a plane along each of its axes
_AROUND_MM = 30.0


def edge_cm2(scan: Volume, conformed: Conformed) -> float:
    """Mean area of the brain in the planes next to where the field of view ends, cm², at the side where it is largest.

    Planes of one value at its sides do not belong to the field of view. Around a brain there is a skull, so of a head
    more planes count than of a stripped brain, whose surface always touches the box around it.
    """
    depth_mm = _STRIPPED_MM if _is_stripped(conformed) else _HEAD_MM
    places = np.argwhere(conformed.mask[::_EVERY, ::_EVERY, ::_EVERY]) * _EVERY
    to_scan = np.linalg.solve(scan.affine, conformed.grid.affine)
    largest = 0
    for axis in range(3):
        index = places @ to_scan[axis, :3] + to_scan[axis, 3]
        near = depth_mm / float(scan.spacing_mm[axis])
        planes = np.moveaxis(scan.modalities[0].voxels, axis, 0)
        # seen from the other end as well; the field of view ends half a voxel farther out than its last voxel
        for along, there in ((planes, index), (planes[::-1], len(planes) - 1 - index)):
            first = _first_plane(along, int(np.floor(there.min() - near)))
            largest = max(largest, np.count_nonzero(there < first - 0.5 + near))
    return largest * conformed.grid.voxel_ml * _EVERY**3 / (depth_mm / 10)


def _is_stripped(conformed: Conformed) -> bool:
    """Whether there is nothing around the brain."""
    low, high = conformed.intensity_ranges[0]
    outside = conformed.image[conformed.mask == 0]
    return bool(np.count_nonzero(outside > low + _TISSUE * (high - low)) < _HEAD_SHARE * outside.size)


def _first_plane(planes: NDArray[np.float32], start: int) -> int:
    """The first plane from one on, or from the end of the array, that holds more than one value."""
    start = max(start, 0)
    return next((n for n in range(start, len(planes)) if not _is_empty(planes[n])), start)


def _is_empty(plane: NDArray[np.float32]) -> bool:
    some = plane[:: max(1, plane.shape[0] // _SAMPLED), :: max(1, plane.shape[1] // _SAMPLED)]
    return bool(np.count_nonzero(some == some.flat[0]) >= _EMPTY * some.size)


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
