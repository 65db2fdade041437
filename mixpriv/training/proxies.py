"""What the methods that mixing is compared with do to a training example; their networks are S of the same size."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixpriv import kernels
from mixpriv.protection.keystream import Stream
from mixpriv.protection.warp import draw_warp
from mixpriv.training.data.augment import strongest

Protect = Callable[[Tensor, Tensor, float, float, np.random.Generator], tuple[Tensor, Tensor]]
"""Image (D, H, W), labels (D, H, W) uint8, strength and voxel spacing in mm to what the network sees and should say."""


def add_noise(image: NDArray[np.float16], strength: float, stream: Stream) -> NDArray[np.float16]:
    """White Gaussian noise of standard deviation ``strength`` (the image is in [0, 1]) where the image is not 0."""
    noise = stream.normal(image.shape) * np.float32(strength)
    return np.where(image > 0, image.astype(np.float32) + noise, 0).astype(np.float16)


def _stream(rng: np.random.Generator) -> Stream:
    return Stream(rng.bytes(32))


def _warp(
    image: Tensor, labels: Tensor, strength: float, spacing_mm: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    shape = (image.shape[0], image.shape[1], image.shape[2])
    warp = draw_warp(_stream(rng), shape, strength, spacing_mm)
    shares = [(labels == value).float() for value in range(1, int(labels.max()) + 1)]
    bent = torch.from_numpy(kernels.warp(torch.stack([image, *shares]).numpy(), *warp.forward))
    return bent[0], strongest(bent[1:])


def _noise(
    image: Tensor, labels: Tensor, strength: float, _spacing_mm: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    noisy = add_noise(image.numpy().astype(np.float16), strength, _stream(rng))
    return torch.from_numpy(noisy.astype(np.float32)), labels


PROXIES: Mapping[str, Protect] = {"warp": _warp, "noise": _noise}
"""Strength: mean displacement in mm; standard deviation of the noise."""
