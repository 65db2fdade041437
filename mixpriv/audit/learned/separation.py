"""A6: taking the target out of what was sent by a network: supervised on simulated requests, or trained on one alone.

The supervised one is the strongest: it learns from the distribution of references, weights and warps. Needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixpriv import kernels
from mixpriv.audit.context import Context
from mixpriv.audit.findings import Finding, Outcome
from mixpriv.audit.images import ssim
from mixpriv.audit.simulation import Sent
from mixpriv.reid.features import Image

_WIDTH, _CROP, _BATCH, _DRAWS = 12, 32, 2, 2
_UNTRAINED = 1
"""Requests that are separated without training: it takes long and finds little."""


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1), nn.InstanceNorm3d(outputs, affine=True), nn.LeakyReLU(0.1),
        nn.Conv3d(outputs, outputs, 3, padding=1), nn.LeakyReLU(0.1),
    )  # fmt: skip


class Separator(nn.Module):
    """A small U-Net: (N, 2, D, H, W) to two images (N, 2, D, H, W); sizes multiples of 4.

    With ``starts_from_input`` both begin as the first channel, what was sent, and the network learns the difference.
    """

    def __init__(self, *, starts_from_input: bool) -> None:
        super().__init__()
        self.starts_from_input, channels = starts_from_input, 2
        self.fine, self.middle = _block(channels, _WIDTH), _block(_WIDTH, 2 * _WIDTH)
        self.coarse, self.up = _block(2 * _WIDTH, 4 * _WIDTH), _block(6 * _WIDTH, 2 * _WIDTH)
        self.last: Any = nn.Sequential(_block(3 * _WIDTH, _WIDTH), nn.Conv3d(_WIDTH, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        middle = self.middle(F.avg_pool3d(fine, 2))
        coarse = self.coarse(F.avg_pool3d(middle, 2))
        up = self.up(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1))
        out = self.last(torch.cat([F.interpolate(up, scale_factor=2.0), fine], 1))
        return images[:, :1] + out if self.starts_from_input else torch.sigmoid(out)


def separate(context: Context) -> Outcome:
    """Both separations on some requests; nothing to do where the scan itself is sent."""
    if all(np.array_equal(one.image, one.visit.image) for one in context.costly):
        return Outcome([])
    torch.manual_seed(context.budget.seed)
    sent = context.costly
    network = _train(context)
    supervised = [_run(network, context, one) for one in sent]
    found, pictures = _judge(context, sent, supervised, "supervised")
    if context.mixes:
        untrained = [
            separate_untrained(one.image.astype(np.float32), context.budget.steps) for one in sent[:_UNTRAINED]
        ]
        more, more_pictures = _judge(context, sent[:_UNTRAINED], untrained, "without training")
        found, pictures = [*found, *more], pictures | more_pictures
    return Outcome(found, pictures)


def _judge(
    context: Context, sent: Sequence[Sent], pairs: Sequence[tuple[Image, Image]], name: str
) -> tuple[list[Finding], dict[str, Image]]:
    """Of both images of a pair the one nearer to the truth counts: more than the attacker knows, never less."""
    spacing = context.environment.spacing_mm
    visits = [one.visit for one in sent]
    best = [
        max(pair, key=lambda image: ssim(image, visit.image, visit.conformed.mask > 0, spacing))
        for pair, visit in zip(pairs, visits, strict=True)
    ]
    found = context.recovered("A6", f", {name}", best, visits)
    if len(sent) > _UNTRAINED:
        found += context.linked("A6", best, [visit.subject for visit in visits], f", {name}")
    return found, {f"A6 {name}": best[0]}


def _pair(sent: Sent) -> Image:
    """Target and reference as they were warped (2, D, H, W); without a reference the target twice."""
    target, reference = sent.visit.image, sent.secret.reference
    both = np.stack([target, target if reference is None else reference.image]).astype(np.float32)
    return both if sent.secret.warp is None else kernels.warp(both, *sent.secret.warp.forward)


def _train(context: Context) -> Separator:
    """Absolute error, whichever of the two comes first (permutation-invariant), on crops of simulated requests."""
    practice = context.practice(context.cohort.known, _DRAWS)
    inputs = np.stack([np.stack([one.image.astype(np.float32), context.template]) for one in practice])
    wanted = np.stack([_pair(one) for one in practice])
    rng = np.random.default_rng(context.budget.seed)
    sizes = np.minimum(_CROP, np.array(inputs.shape[2:]) // 4 * 4)
    network = Separator(starts_from_input=True)
    nn.init.zeros_(network.last[-1].weight)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(context.budget.steps):
        chosen = rng.choice(len(practice), _BATCH, replace=False)
        corner = rng.integers(0, np.array(inputs.shape[2:]) - sizes + 1)
        crop = tuple(slice(n, n + size) for n, size in zip(corner, sizes, strict=True))
        image, truth = (torch.from_numpy(array[chosen][(..., *crop)]) for array in (inputs, wanted))
        optimiser.zero_grad()
        permutation_invariant_loss(network(image), truth).backward()
        optimiser.step()
    return network.eval()


def permutation_invariant_loss(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error of pairs (N, 2, D, H, W), in the order that fits better, pair by pair."""
    straight = (guess - truth).abs().flatten(1).mean(1)
    crossed = (guess - truth.flip(1)).abs().flatten(1).mean(1)
    return torch.minimum(straight, crossed).mean()


def _run(network: Separator, context: Context, sent: Sent) -> tuple[Image, Image]:
    image = np.stack([sent.image.astype(np.float32), context.template])
    room = [(0, -n % 4) for n in image.shape[1:]]
    with torch.no_grad():
        both = network(torch.from_numpy(np.pad(image, [(0, 0), *room]))[None])[0].clamp(0, 1).numpy()
    d, h, w = image.shape[1:]
    return both[0, :d, :h, :w], both[1, :d, :h, :w]


def separate_untrained(seen: Image, steps: int) -> tuple[Image, Image]:
    """Two untrained networks must together explain one mixture (Double-DIP, Gandelsman et al., CVPR 2019)."""
    room = [(0, -n % 4) for n in seen.shape]
    mixture = torch.from_numpy(np.pad(seen, room))[None, None]
    noise = torch.randn(2, 1, 2, *mixture.shape[2:]) * 0.1
    networks = [Separator(starts_from_input=False) for _ in range(2)]
    share = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([share, *(p for network in networks for p in network.parameters())], lr=5e-3)
    layers = [torch.zeros_like(mixture)] * 2
    for _ in range(max(1, steps // 6)):
        layers = [network(one)[:, :1] for network, one in zip(networks, noise, strict=True)]
        weight = torch.sigmoid(share)
        error = (weight * layers[0] + (1 - weight) * layers[1] - mixture).abs().mean()
        edges = [one.diff(dim=2).abs().mean(dim=2) for one in layers]
        optimiser.zero_grad()
        (error + 0.1 * (edges[0] * edges[1]).mean()).backward()
        optimiser.step()
    d, h, w = seen.shape
    first, second = (one.detach().numpy()[0, 0, :d, :h, :w] for one in layers)
    return first, second
