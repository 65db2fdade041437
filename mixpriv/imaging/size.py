"""How many voxels a scan may have: so few that no run needs more than 2 GiB, so many that it is one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mixpriv.errors import InputError

MAX_BYTES = 640 * 2**20
"""Of the voxels as float32, 550 along each axis: so that no run needs more than 2 GiB."""
MIN_VOXELS_PER_AXIS = 8


def check_size(shape: tuple[int, ...], name: str) -> None:
    """Refuse an image that is too small or too large to be worked on; `InputError`."""
    if min(shape) < 1:
        raise InputError(f"{name}: expected a 3-D image, got shape {shape}")
    if 1 in shape[:3]:
        raise InputError(f"{name}: expected a 3-D image, got a 2-D one of shape {shape}")
    if math.prod(shape) * 4 > MAX_BYTES:
        raise InputError(f"{name}: expected at most {MAX_BYTES // 4} voxels, got shape {shape}")
    if min(shape[:3]) < MIN_VOXELS_PER_AXIS:
        raise InputError(f"{name}: expected at least {MIN_VOXELS_PER_AXIS} voxels along each axis, got shape {shape}")


def check_shape(shape: tuple[int, ...], modalities: Sequence[str], name: str) -> tuple[int, ...]:
    """Check the shape of an image of some modalities; returns it without further axes of length 1.

    Raises
    ------
    InputError
        it has other axes, or is too small or too large.

    Examples
    --------
    >>> check_shape((64, 64, 32, 1), ["T1w"], "scan.nii")
    (64, 64, 32)
    """
    channels = (len(modalities),) if len(modalities) > 1 else ()
    while len(shape) > 3 + len(channels) and shape[-1] == 1:
        shape = shape[:-1]
    if channels and shape[3:] != channels:
        raise InputError(
            f"{name}: expected a 4-D image whose last axis holds {len(modalities)} modalities "
            f"({', '.join(modalities)}), got shape {shape}"
        )
    if len(shape) != 3 + len(channels):
        raise InputError(f"{name}: expected a 3-D image, got shape {shape}")
    check_size(shape, name)
    return shape
