"""Mixing: what is sent instead of the scan. The way back is in `mixpriv.protection.unmixing`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.errors import InputError
from mixpriv.imaging.resample import Conformed
from mixpriv.protection.reference import Reference
from mixpriv.protection.warp import Warp


def draw_weight(seed: bytes, weight_range: tuple[float, float]) -> float:
    """Draw the scan's weight in a mixture, uniform in a range; the same 32-byte seed gives the same weight.

    Examples
    --------
    >>> draw_weight(bytes(32), (0.4, 0.7))
    0.4
    """
    low, high = weight_range
    return low + (high - low) * (int.from_bytes(seed[:7], "little") / 2**56)


def mix(scan: Conformed, reference: Reference | None, weight: float, warp: Warp | None = None) -> NDArray[np.float16]:
    """Mix a scan with a reference, every modality by the same weight and warp: what is sent.

    Parameters
    ----------
    scan : in the bundle's grid; each modality is normalised to 0..1 inside the mask and is 0 outside
    reference : None for the scan alone; the weight must be 1 then
    weight : of the scan; the reference has the rest
    warp : of the mixture

    Returns
    -------
    mixture : (M, D, H, W) float16, 0 outside of both masks

    Raises
    ------
    InputError
        the reference has another number of modalities than the scan.
    """
    there, count = scan.device.to_device, len(scan.images)
    if reference is not None and len(reference.images) != count:
        raise InputError(f"reference: expected {count} modalities, got {len(reference.images)}")
    images, mask = scan.placed or ([there(image) for image in scan.images], there(scan.mask))
    others = [None] * count if reference is None else [there(image) for image in reference.images]
    other_mask = None if reference is None else there(reference.mask)
    bent = None if warp is None else (there(warp.forward[0]), warp.forward[1])
    mixtures = [
        kernels.mix(image, mask, limits, other, other_mask, weight, warp=bent)
        for image, limits, other in zip(images, scan.intensity_ranges, others, strict=True)
    ]
    return np.stack([scan.device.to_host(mixture) for mixture in mixtures])


def normalised(scan: Conformed) -> NDArray[np.float16]:
    """The scan itself as mode `none` sends it: (M, D, H, W) float16, 0..1 inside the mask, 0 outside."""
    return mix(scan, None, 1.0)
