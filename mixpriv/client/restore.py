"""From class probabilities in the bundle's grid to the values of a segmentation, in the scan's own grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.imaging.midplane import midsurface
from mixpriv.imaging.resample import Conformed, image_to_scan, to_scan
from mixpriv.imaging.volume import Image, Volume
from mixpriv.labels import LEFT, RIGHT, Labelling

_PLANES = 16
"""Of a scan that are told left from right at a time: a fine scan is large, and another image of its size too much."""


def merged(probabilities: NDArray[np.float32], labelling: Labelling) -> NDArray[np.float32]:
    """Add up the probabilities (C, D, H, W) of the network's classes that become one."""
    if labelling.merges is None:
        return probabilities
    result = np.zeros((len(labelling.classes), *probabilities.shape[1:]), np.float32)
    for channel, into in zip(probabilities, labelling.merges, strict=True):
        kernels.accumulate(result[into], channel)
    return result


def restore(
    probabilities: NDArray[np.float32], conformed: Conformed, scan: Volume, labelling: Labelling
) -> NDArray[np.uint8]:
    """The labels (I, J, K) of a scan, Fortran order: the strongest class of each voxel, on its side of the brain.

    Parameters
    ----------
    probabilities : (C, D, H, W) in the grid of the conformed scan, outside of whose mask they do not count
    """
    # the client knows where the brain ends: what the answer shows beyond is the reference's
    classes = to_scan(probabilities, conformed.grid, scan, conformed.mask, conformed.device)
    left, right = labelling.written(LEFT), labelling.written(RIGHT)
    if labelling.is_sided:
        beyond = beyond_midsurface(probabilities, conformed, labelling)
        for begin in range(0, scan.shape[2], _PLANES):
            planes, part = _planes(scan, begin), classes[:, :, begin : begin + _PLANES]
            is_right = image_to_scan(beyond, conformed.grid, planes) > 0
            part[...] = np.where(is_right, right[part], left[part])
        return classes
    return classes if (left == np.arange(len(left))).all() else left[classes]


def _planes(scan: Volume, begin: int) -> Image:
    """Some planes of a scan, from the one ``begin`` on."""
    affine = scan.affine.copy()
    affine[:3, 3] += begin * affine[:3, 2]
    return Image(scan.voxels[:, :, begin : begin + _PLANES], affine)


def beyond_midsurface(
    probabilities: NDArray[np.float32], conformed: Conformed, labelling: Labelling
) -> NDArray[np.float32]:
    """How far each voxel of the grid (D, H, W) lies on the right of the surface between the halves, voxels."""
    strongest = kernels.argmax(probabilities) * (conformed.mask != 0)
    surface = midsurface(labelling.sided[strongest], float(conformed.grid.spacing_mm[0]))
    along = np.arange(len(strongest), dtype=np.float32)[:, None, None]
    return np.asarray(along - surface, np.float32)
