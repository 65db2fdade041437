"""The three networks: segmenter S (server), unmixer D (client), brain extractor (client).

All work at half resolution, with 2x2x2 blocks of voxels as channels, because full-resolution layers cost the most and
add little. Sizes must be multiples of 16.
"""

from __future__ import annotations

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
    """D: linear unmixing plus a learned correction.

    Input (N, 2C+1, D, H, W) of :func:`unmixer_input`, and images (N, images, D, H, W) if it sees some. Output logits
    (N, C, D, H, W).
    """

    additions = ("look.", "deep.")
    """Prefixes of parameters that earlier weights may lack: at first they change nothing."""

    def __init__(self, classes: int, width: int, images: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.sharpness = nn.Parameter(torch.tensor(6.0))

        def block(inp: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Module:
            convolution = nn.Conv3d(inp, out, kernel, stride, padding=(kernel - 1) // 2)
            return nn.Sequential(convolution, nn.LeakyReLU(0.01))

        # a 2x2x2 convolution at stride 2 is space-to-depth and a 1x1x1 convolution in one, without moving the voxels
        self.stem = nn.Sequential(nn.Conv3d(2 * classes + 1, width, 2, 2), nn.LeakyReLU(0.01))
        self.look = zeroed(nn.Conv3d(images, width, 2, 2, bias=False)) if images else None
        self.fine = block(width, width)
        self.down = nn.Sequential(
            block(width, 2 * width, 3, 2), block(2 * width, 2 * width), block(2 * width, 2 * width)
        )
        self.deep = nn.Sequential(
            block(2 * width, 4 * width, 3, 2),
            block(4 * width, 4 * width),
            zeroed(nn.ConvTranspose3d(4 * width, 2 * width, 2, 2)),
        )
        self.up = nn.ConvTranspose3d(2 * width, width, 2, 2)
        self.merge = block(2 * width, width, 1)
        self.last = block(width, width)
        self.head = nn.ConvTranspose3d(width, classes, 2, 2)

    def forward(self, known: Tensor, images: Tensor | None = None) -> Tensor:
        x = self.stem[0](known)
        if self.look is not None:
            x = x + self.look(images)
        x = self.fine(self.stem[1](x))
        low = self.down(x)
        x = self.merge(torch.cat([x, self.up(low + self.deep(low))], 1))
        logits: Tensor = self.sharpness * known[:, : self.classes] + self.head(self.last(x))
        return logits


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer, all its parameters 0: what it adds to is at first as without it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


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
