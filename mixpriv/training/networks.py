"""The three networks: segmenter S (server), unmixer D (client), brain extractor (client).

All work at half resolution, with 2x2x2 blocks of voxels as channels, because full-resolution layers cost the most and
add little. Sizes must be multiples of 16.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from monai.networks.nets import DynUNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn


class SpaceToDepthUNet(nn.Module):
    """An nnU-Net-style U-Net (MONAI DynUNet) between space-to-depth and depth-to-space.

    Input (N, in_channels, D, H, W), output logits (N, out_channels, D, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, filters: Sequence[int]) -> None:
        super().__init__()
        levels = len(filters)
        self.unet = DynUNet(
            spatial_dims=3,
            in_channels=8 * in_channels,
            out_channels=8 * out_channels,
            kernel_size=[3] * levels,
            strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1),
            filters=list(filters),
            norm_name=("INSTANCE", {"affine": True}),
        )

    def forward(self, image: Tensor) -> Tensor:
        return pixelshuffle(self.unet(pixelunshuffle(image, 3, 2)), 3, 2)


def unmixer_input(mixed: Tensor, reference: Tensor, weight: Tensor) -> Tensor:
    """What the client's kernel ``unpack`` writes: (N, 2C+1, D, H, W).

    Linear unmixing ``(p_mix - (1-a) y_r) / a``, clipped to [-1, 2] (C), one-hot reference labels (C), weight (1).
    """
    linear = ((mixed - (1 - weight) * reference) / weight).clamp(-1, 2)
    return torch.cat([linear, reference, weight], 1)


class Unmixer(nn.Module):
    """D: linear unmixing trusted as far as the target's weight goes, plus what a small U-Net makes of it and of images.

    Input (N, 2C+1, D, H, W) of :func:`unmixer_input`, all zeros or None without an answer, and images
    (N, images, D, H, W) if it sees some. Output logits (N, C, D, H, W). Sizes must be multiples of 2 to the power of
    the number of levels.
    """

    def __init__(self, classes: int, filters: Sequence[int], images: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.sharpness = nn.Parameter(torch.tensor(6.0))
        first, pairs = filters[0], list(itertools.pairwise(filters))
        # a 2x2x2 convolution at stride 2 is space-to-depth and a 1x1x1 convolution in one, without moving the voxels
        self.stem = nn.Conv3d(2 * classes + 1, first, 2, 2, bias=False)
        self.look = nn.Conv3d(images, first, 2, 2, bias=False) if images else None
        self.fine = nn.Sequential(*_normalised(first), _block(first, first))
        self.down = nn.ModuleList(nn.Sequential(_block(a, b, 3, 2), _block(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, 2) for a, b in pairs)
        self.merge = nn.ModuleList(nn.Sequential(_block(2 * a, a, 1), _block(a, a)) for a, _ in pairs)
        self.head = nn.ConvTranspose3d(first, classes, 2, 2)

    def features(self, known: Tensor | None, images: Tensor | None = None) -> Tensor:
        """What the head makes the correction of, (N, filters[0], D/2, H/2, W/2)."""
        parts = [self.stem(known)] if known is not None else []
        if self.look is not None:
            parts.append(self.look(images))
        levels = [self.fine(sum(parts))]
        for down in self.down:
            levels.append(down(levels[-1]))
        x: Tensor = levels.pop()
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(torch.cat([levels.pop(), up(x)], 1))
        return x

    def forward(self, known: Tensor | None, images: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(self.features(known, images))
        if known is not None:
            # times the weight: an error of S counts alike at every weight
            logits = logits + self.sharpness * known[:, -1:] * known[:, : self.classes]
        return logits


class Alone(nn.Module):
    """D without an answer: image (N, M, D, H, W) to logits (N, C, D, H, W)."""

    def __init__(self, unmixer: Unmixer) -> None:
        super().__init__()
        self.unmixer = unmixer

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.unmixer(None, image)
        return logits


def _normalised(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm3d(channels, affine=True), nn.LeakyReLU(0.01)


def _block(inp: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv3d(inp, out, kernel, stride, padding=(kernel - 1) // 2), *_normalised(out))


def multiply_adds(network: nn.Module, *example: Tensor) -> int:
    """Multiply-adds of all convolutions for one example, counted by running it."""
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.ConvTranspose3d):
            # here kernel and stride are equal: every output voxel comes from one input voxel
            total += output.numel() * module.in_channels
        elif isinstance(module, nn.Conv3d):
            total += output.numel() * module.in_channels * math.prod(module.kernel_size)

    hooks = [
        m.register_forward_hook(count) for m in network.modules() if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))
    ]
    try:
        with torch.no_grad():
            network(*example)
    finally:
        for hook in hooks:
            hook.remove()
    return total
