"""Real training images and labels made different: smooth deformation, contrast, bias field, resolution, noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixpriv.training.data.synth import random_affine, resolution, smooth_noise
from mixpriv.training.specs import Augmentation


def displaced(
    source: Sequence[int], shape: tuple[int, int, int], augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    """Where a grid of a shape samples an image of the size ``source``, both centred: (1, D, H, W, 3) for `grid_sample`.

    Rotated, scaled, sheared, shifted and smoothly displaced at random.
    """
    matrix = torch.from_numpy(random_affine(rng, augmentation).astype(np.float32))
    offset = torch.from_numpy(rng.normal(0, augmentation.shift_voxels, 3).astype(np.float32))
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    points += smooth_noise(rng, shape, 16, 3) * (augmentation.elastic_voxels * rng.uniform(0, 2))
    half = (torch.tensor(tuple(source), dtype=torch.float32) - 1) / 2
    moved = torch.einsum("ij,jdhw->idhw", matrix, points) + offset[:, None, None, None]
    return (moved / half[:, None, None, None]).flip(0).permute(1, 2, 3, 0)[None]


def move(images: Tensor, mask: Tensor, shares: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sample images (M, D, H, W), their mask (D, H, W) and shares of classes (K, D, H, W) where `displaced` says."""
    known = torch.cat([images, mask[None].float(), shares])
    moved = F.grid_sample(known[None], where, padding_mode="zeros", align_corners=True)[0]
    at = len(images)
    return moved[:at], moved[at] > 0.5, moved[at + 1 :]


def repaint(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Another contrast, bias field, resolution and noise for an image (D, H, W) in [0, 1]."""
    image = image.pow(float(np.exp(rng.normal(0, 0.25))))
    image = image * torch.exp(smooth_noise(rng, image.shape, 32)[0] * rng.uniform(0, 0.15))
    if rng.random() < 0.3:
        image = resolution(image, rng)
    noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
    return image.add_(noise, alpha=float(rng.uniform(0, 0.05)))


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Label map (..., D, H, W) to the shares of the classes (..., C, D, H, W) float32, background first."""
    return F.one_hot(labels.long(), classes).movedim(-1, -4).float()


def strongest(shares: Tensor) -> Tensor:
    """Labels (D, H, W) uint8 from the shares (C-1, D, H, W) of all classes but the background, which has the rest."""
    return torch.cat([1 - shares.sum(0, keepdim=True), shares]).argmax(0).to(torch.uint8)
