"""The proxy that is sent instead of the scan, and the way back: mixing and unmixing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.client.conform import Conformed
from mixpriv.client.device import CPU, Device
from mixpriv.client.reference import Reference
from mixpriv.engine import Engine


def draw_weight(seed: bytes, weight_range: tuple[float, float]) -> float:
    """Draw the target's share in the mixture, uniform in a range; the same 32-byte seed gives the same share."""
    low, high = weight_range
    return low + (high - low) * (int.from_bytes(seed[:7], "little") / 2**56)


def mix(target: Conformed, reference: Reference | None, weight: float) -> NDArray[np.float16]:
    """Mix to (D, H, W) float16, 0..1: ``weight`` of the brain, normalised, and the rest of the reference.

    Each is zero outside its own mask, so the mixture is zero outside the union of both. Without a reference the weight
    must be 1: the brain alone.
    """
    there = target.device.to_device
    image, mask = target.placed or (there(target.image), there(target.mask))
    other, other_mask = (None, None) if reference is None else (there(reference.image), there(reference.mask))
    mixture = kernels.mix(image, mask, target.intensity_range, other, other_mask, weight)
    return target.device.to_host(mixture)


def unmix(
    answer: NDArray[np.uint8],
    reference_labels: NDArray[np.uint8],
    weight: float,
    unmixer: Engine,
    device: Device = CPU,
) -> NDArray[np.float32]:
    """Get the target's class probabilities from the answer to a mixture, by the network that was trained for it.

    The network starts from the linear unmixing and corrects it by what it sees in it and in the reference's labels.

    Parameters
    ----------
    answer : (C-1, D, H, W) uint8, probabilities x 255 without the background
    reference_labels : (D, H, W) uint8
    weight : the target's share in the mixture
    unmixer : ``unmixer_input`` (1, 2C+1, D, H, W) -> ``probabilities`` (1, C, D, H, W)
    device : where the answer is unpacked

    Returns
    -------
    probabilities : (C, D, H, W) float32
    """
    known = device.to_host(kernels.unpack(device.to_device(answer), device.to_device(reference_labels), weight))
    return np.ascontiguousarray(unmixer(unmixer_input=known[None])["probabilities"][0], dtype=np.float32)


def linear_unmix(answer: NDArray[np.uint8], reference_labels: NDArray[np.uint8], weight: float) -> NDArray[np.float32]:
    """Solve the mixing equation, the baseline that `unmix` must beat: ``(p_mix - (1-a)·y_r) / a``, clipped to 0..2."""
    known = kernels.unpack(answer, reference_labels, weight)
    return np.maximum(known[: len(answer) + 1], np.float32(0.0))


def unpack_probabilities(answer: NDArray[np.uint8], device: Device = CPU) -> NDArray[np.float32]:
    """Turn the answer to an unmixed scan (C-1, D, H, W) into class probabilities (C, D, H, W) f32, background first."""
    any_labels = np.zeros(answer.shape[1:], dtype=np.uint8)  # at weight 1 the reference has no share
    known = kernels.unpack(device.to_device(answer), device.to_device(any_labels), 1.0)
    return device.to_host(known[: len(answer) + 1])
