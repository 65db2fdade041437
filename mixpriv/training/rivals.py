"""What the methods that mixing is compared with do to a training example; their networks are S of the same size."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mixpriv import kernels
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.rivals import add_noise
from mixpriv.protection.warp import draw_warp
from mixpriv.training.data.augment import strongest
from mixpriv.training.specs import Rival

Protect = Callable[[Tensor, Tensor, float, float, np.random.Generator], tuple[Tensor, Tensor]]
"""Image (D, H, W), labels (D, H, W) uint8, strength and voxel spacing in mm to what the network sees and should say."""


def _stream(rng: np.random.Generator) -> Keystream:
    return Keystream(rng.bytes(32))


def _warp(
    image: Tensor, labels: Tensor, strength: float, spacing_mm: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    shape = (image.shape[0], image.shape[1], image.shape[2])
    warp = draw_warp(_stream(rng), shape, strength, spacing_mm)
    shares = [(labels == value).float() for value in range(1, int(labels.max()) + 1)]
    moved = torch.from_numpy(kernels.warp(torch.stack([image, *shares]).numpy(), *warp.forward))
    return moved[0], strongest(moved[1:])


def _noise(
    image: Tensor, labels: Tensor, strength: float, _spacing_mm: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    noisy = add_noise(image.numpy().astype(np.float16), strength, _stream(rng))
    return torch.from_numpy(noisy.astype(np.float32)), labels


_PROTECT: Mapping[str, Protect] = {"warp": _warp, "noise": _noise}


def protect_example(
    rival: Rival, image: Tensor, labels: Tensor, spacing_mm: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """What the rival's network sees of an image (D, H, W), and the labels (D, H, W) uint8 that it should say."""
    return _PROTECT[rival.name](image, labels, rival.strength, spacing_mm, rng)
