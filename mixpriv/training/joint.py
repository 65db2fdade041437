"""Joint training of S and D, end to end: ``L_mix(S(x_mix), a y + (1-a) y_r) + lambda L_unmix(D(...), y)``.

One S serves every mode: a share of the steps is unmixed (a = 1). Source: Kim et al., Mixup-Privacy, IPMI 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from mixpriv import kernels
from mixpriv.bundle import Alignment
from mixpriv.errors import InputError
from mixpriv.protection.keystream import Stream
from mixpriv.protection.reference import ReferenceModel, draw_labels, paint
from mixpriv.protection.warp import MAX_MEAN_MM, Warp, displacement, draw_warp
from mixpriv.training.data.crops import Region
from mixpriv.training.data.scans import Folds
from mixpriv.training.data.sources import Targets, open_targets
from mixpriv.training.data.synth import Augmentation
from mixpriv.training.data.tumours import Tumours
from mixpriv.training.loop import Initial, Schedule, autocast, fit
from mixpriv.training.networks import SpaceToDepthUNet, Unmixer, unmixer_input
from mixpriv.training.proxies import PROXIES

SEEN = {"labels": 0, "target": 1, "reference": 1, "reference and mixture": 2}
"""What D sees beside the answer, the reference's labels and the weight: number of images."""


@dataclass(frozen=True)
class JointConfig:
    """What ``[segmenter]`` in a training config says; lengths in voxels of the bundle's grid.

    Heads have an ``alignment``, real ones ``folds`` or ``tumours``, crops a ``region``. A step's ``batch`` is all
    mixtures or all plain. Of the mixtures a share is as in mode ``shielded``: with weights of their own, and bent by a
    warp before S sees them. With a ``proxy`` of `PROXIES` nothing is mixed: S learns to segment what that method sends
    at a strength.

    A D that sees the target learns in the plain steps to do without an answer; with ``alone`` that is all, and there is
    no S. ``frozen`` trains D beside a given S. For ablations: ``joint=False`` keeps the gradient of L_unmix from S, and
    D sees one of `SEEN`.
    """

    classes: tuple[str, ...]
    grid_shape: tuple[int, int, int]
    spacing_mm: float
    alignment: Alignment | None
    region: Region | None
    crop: tuple[int, int, int]
    filters: tuple[int, ...]
    unmixer_filters: tuple[int, ...]
    weight_range: tuple[float, float]
    plain_share: float
    plain_steps: int
    steps: int
    learning_rate: float
    unmix_lambda: float
    seed: int
    references: int
    reference_warp_mm: float
    batch: int = 1
    folds: Folds | None = None
    modalities: tuple[str, ...] = ("T1w",)
    tumours: Tumours | None = None
    proxy: str = ""
    strength: float = 0.0
    alone: bool = False
    joint: bool = True
    frozen: bool = False
    unmixer_sees: str = "labels"
    shielded_share: float = 0.0
    shielded_range: tuple[float, float] = (0.1, 0.4)
    shielded_warp_mm: float = MAX_MEAN_MM
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.unmixer_sees not in SEEN:
            raise InputError(f"unmixer_sees: expected one of {', '.join(SEEN)}, got {self.unmixer_sees!r}")

    @property
    def lone_unmixer(self) -> bool:
        """Whether D learns to do without an answer."""
        return self.unmixer_sees == "target" and not self.proxy


class SegmentationLoss(nn.Module):
    """Cross-entropy plus soft Dice against class probabilities (N, C, D, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(softmax=True, soft_label=True, smooth_nr=1.0, smooth_dr=1.0)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = F.cross_entropy(logits, target) + self.dice(logits, target)
        return loss


def seed_stream(seed: int, index: int) -> Stream:
    """The reference stream of a training run: public, unlike a client's."""
    return Stream(np.random.SeedSequence([seed, index]).generate_state(8).astype("<u4").tobytes())


def one_hot(labels: Sequence[Tensor], classes: int) -> Tensor:
    """N label maps (D, H, W) to (N, C, D, H, W) float32."""
    return F.one_hot(torch.stack(list(labels)).long(), classes).permute(0, 4, 1, 2, 3).float()


class ReferencePool:
    """A few hundred label draws of the generator that clients use; intensities are drawn anew each time."""

    def __init__(self, model: ReferenceModel, seed: int, count: int) -> None:
        self.model, self.seed = model, seed
        self.labels = [draw_labels(model, seed_stream(seed, i)) for i in range(count)]

    def draw(self, window: tuple[slice, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images (M, D, H, W) float32 and labels uint8 of a random reference in a window, flipped at random."""
        labels = self.labels[rng.integers(len(self.labels))]
        if rng.random() < 0.5:
            labels = labels[::-1]
        labels = np.ascontiguousarray(labels[window])
        stream = seed_stream(self.seed, int(rng.integers(1 << 40)) + len(self.labels))
        images = [paint(labels, table, self.model.spacing_mm, stream) for table in self.model.intensity_ranges]
        return torch.from_numpy(np.stack(images)), torch.from_numpy(self.model.tissue_of[labels])


@dataclass(frozen=True)
class Example:
    """A step's examples: images (N,M,D,H,W), targets one-hot (N,C,D,H,W), references one-hot or None, weights (N,).

    ``target_image`` and ``reference_image`` (N,M,D,H,W) are there whenever the reference is. ``back``: where bent
    images are to be sampled to be straight again (N,D,H,W,3), None if they are straight.
    """

    image: Tensor
    target: Tensor
    reference: Tensor | None
    weight: Tensor
    target_image: Tensor | None = None
    reference_image: Tensor | None = None
    back: Tensor | None = None

    def seen(self, what: str) -> Tensor | None:
        """The images that D sees, of `SEEN`: (N,images,D,H,W), None if there is none."""
        images = {
            "labels": [],
            "target": [self.target_image],
            "reference": [self.reference_image],
            "reference and mixture": [self.reference_image, self.image],
        }[what]
        return torch.cat([image for image in images if image is not None], 1) if images else None

    def straight(self, probabilities: Tensor) -> Tensor:
        """Class probabilities (N,C,D,H,W) of what S saw, bent back; beyond the grid all is background."""
        if self.back is None:
            return probabilities
        bent = F.grid_sample(probabilities, self.back, align_corners=True)
        return torch.cat([bent[:, :1] + 1 - bent.sum(1, keepdim=True), bent[:, 1:]], 1)


class Examples:
    """Training examples by step; step k depends on the seed and k alone."""

    def __init__(self, config: JointConfig, targets: Targets, pool: ReferencePool) -> None:
        self.config, self.targets, self.pool = config, targets, pool
        self._warps: dict[int, Warp] = {}

    def _warp(self, index: int) -> Warp:
        """One of as many warps as there are references."""
        if index not in self._warps:
            stream, config = seed_stream(self.config.seed + 1, index), self.config
            self._warps[index] = draw_warp(stream, config.crop, config.shielded_warp_mm, config.spacing_mm)
        return self._warps[index]

    def at(self, step: int) -> Example:
        """The examples of a step: plain (weight 1) for the first steps and a share of the others, else mixtures."""
        config, rng = self.config, np.random.default_rng([self.config.seed, step])
        plain = step < config.plain_steps or rng.random() < config.plain_share
        plain = plain and (config.lone_unmixer or not config.frozen)
        # nothing is drawn where there is no such share: examples stay those of earlier trainings
        shielded = not plain and config.shielded_share > 0 and rng.random() < config.shielded_share
        images, targets, references, weights = [], [], [], []
        scans, others, backs = [], [], []
        for _ in range(config.batch):
            start = [int(rng.integers(n - c + 1)) for n, c in zip(config.grid_shape, config.crop, strict=True)]
            window = tuple(slice(s, s + c) for s, c in zip(start, config.crop, strict=True))
            image, labels = self.targets.draw(window, rng)
            if config.proxy:
                seen, labels = PROXIES[config.proxy](image[0], labels, config.strength, config.spacing_mm, rng)
                image = seen[None]
            weight = 1.0
            if not plain:
                weight = float(rng.uniform(*(config.shielded_range if shielded else config.weight_range)))
                other, other_labels = self.pool.draw(window, rng)
                references.append(other_labels)
                scans.append(image)
                others.append(other)
                image = (weight * image + (1 - weight) * other).half().float()
                if shielded:
                    image, back = bend(image, self._warp(int(rng.integers(max(1, config.references)))))
                    backs.append(back)
            images.append(image)
            targets.append(labels)
            weights.append(weight)
        count = len(config.classes)
        return Example(
            torch.stack(images),
            one_hot(targets, count),
            one_hot(references, count) if references else None,
            torch.tensor(weights),
            torch.stack(scans) if scans else None,
            torch.stack(others) if others else None,
            torch.stack(backs) if backs else None,
        )


def bend(image: Tensor, warp: Warp) -> tuple[Tensor, Tensor]:
    """Bend images (M, D, H, W); with where to sample what comes of them to undo that, (D, H, W, 3)."""
    shape = (image.shape[1], image.shape[2], image.shape[3])
    bent = torch.from_numpy(kernels.warp(image.numpy(), *warp.forward)).half().float()
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    moves = displacement(warp.inverse, shape)
    place = [m * np.float32(2 / (n - 1)) + a for m, n, a in zip(moves, shape, np.ix_(*axes), strict=True)]
    return bent, torch.from_numpy(np.stack(place[::-1], -1))


class JointModel(nn.Module):
    """S and D together; without S it is what a client could do alone."""

    def __init__(self, segmenter: SpaceToDepthUNet | None, unmixer: Unmixer) -> None:
        super().__init__()
        self.segmenter, self.unmixer = segmenter, unmixer

    @staticmethod
    def of(config: JointConfig) -> JointModel:
        """The networks of a config, untrained."""
        classes, modalities = len(config.classes), len(config.modalities)
        segmenter = None if config.alone else SpaceToDepthUNet(modalities, classes, config.filters)
        return JointModel(segmenter, Unmixer(classes, config.unmixer_filters, SEEN[config.unmixer_sees] * modalities))


def losses(model: JointModel, loss: SegmentationLoss, example: Example, config: JointConfig) -> dict[str, Tensor]:
    """Of mixtures ``mixed`` (L_mix) and ``unmixed`` (lambda L_unmix), whose gradient reaches S; else ``plain``.

    ``alone``: of a D that has no answer, beside plain.
    """
    if example.reference is None:
        return _plain_losses(model, loss, example, config)
    assert model.segmenter is not None  # noqa: S101 - nothing is mixed without it
    weight = example.weight.view(-1, 1, 1, 1, 1)
    with autocast(), torch.set_grad_enabled(not config.frozen):
        logits = model.segmenter(example.image)
    logits = logits.float()
    probabilities = example.straight(logits.softmax(1))
    share = weight.expand_as(example.image[:, :1])
    with autocast():
        known = unmixer_input(probabilities if config.joint else probabilities.detach(), example.reference, share)
        corrected = model.unmixer(known, example.seen(config.unmixer_sees))
        unmixed = config.unmix_lambda * loss(corrected.float(), example.target)
    if config.frozen:
        return {"unmixed": unmixed}
    said = logits if example.back is None else probabilities.clamp_min(1e-6).log()
    return {"mixed": loss(said, weight * example.target + (1 - weight) * example.reference), "unmixed": unmixed}


def _plain_losses(
    model: JointModel, loss: SegmentationLoss, example: Example, config: JointConfig
) -> dict[str, Tensor]:
    result = {}
    with autocast():
        if model.segmenter is not None and not config.frozen:
            result["plain"] = loss(model.segmenter(example.image).float(), example.target)
        if config.lone_unmixer:
            result["alone"] = config.unmix_lambda * loss(model.unmixer(None, example.image).float(), example.target)
    return result


def train_joint(
    config: JointConfig, data: Path, folder: Path, initial: Initial | None = None, unmixer: Initial | None = None
) -> Path:
    """Train S and D, resuming from the folder; weights of an earlier run may start a new one.

    ``unmixer``: weights that D alone starts from, in place of those of ``initial``. Writes the reference model beside
    the checkpoints; returns the path of the averaged weights.
    """
    torch.manual_seed(config.seed)
    model, loss = JointModel.of(config), SegmentationLoss()
    start = _start(model, config, initial, unmixer)
    targets = open_targets(config, data)
    reference_model = targets.reference_model()
    folder.mkdir(parents=True, exist_ok=True)
    reference_model.save(folder / "reference.npz")
    source = Examples(config, targets, ReferencePool(reference_model, config.seed, config.references))
    if config.frozen and model.segmenter is not None:
        model.segmenter.requires_grad_(False)
    schedule = Schedule(config.steps, config.learning_rate)
    return fit(model, lambda k: losses(model, loss, source.at(k), config), schedule, folder, start)


def _start(model: JointModel, config: JointConfig, initial: Initial | None, unmixer: Initial | None) -> Initial | None:
    if initial is None:
        if unmixer is not None:
            raise InputError("--initial-unmixer: expected weights of the segmenter to start from, too")
        if config.frozen:
            raise InputError("frozen: expected weights of the segmenter to start from")
        return None
    weights = dict(initial.weights)
    if unmixer is not None:
        own = {name: value for name, value in unmixer.weights.items() if name.startswith("unmixer.")}
        if not own:
            raise InputError("--initial-unmixer: expected a run with an unmixer, got one without")
        weights |= own
    elif config.frozen:
        weights |= {f"unmixer.{name}": value.detach() for name, value in model.unmixer.named_parameters()}
    return Initial(weights, initial.steps)


def control_config(config: JointConfig, steps: int, learning_rate: float) -> JointConfig:
    """Training of D alone on the scan itself: what a client could do without the server."""
    return replace(
        config, alone=True, frozen=False, unmixer_sees="target", steps=steps, plain_steps=steps,
        learning_rate=learning_rate, references=0,
    )  # fmt: skip


def with_steps(config: JointConfig, steps: int) -> JointConfig:
    """The same training, for another number of steps.

    Raises
    ------
    InputError
        fewer than one.
    """
    if steps < 1:
        raise InputError(f"steps: expected at least 1, got {steps}")
    return replace(config, steps=steps, plain_steps=config.plain_steps if config.references else steps)


def proxy_config(config: JointConfig, proxy: str, strength: float) -> JointConfig:
    """Training of S for another method, with the same data, network, augmentation and steps.

    Raises
    ------
    InputError
        no such method, or a strength that is none.
    """
    if proxy not in PROXIES:
        raise InputError(f"proxy: expected one of {', '.join(PROXIES)}, got {proxy!r}")
    if len(config.modalities) > 1:
        raise InputError(f"proxy: expected a config of one modality, got {', '.join(config.modalities)}")
    if not strength > 0:
        raise InputError(f"strength: expected more than 0, got {strength}")
    return replace(config, proxy=proxy, strength=strength, plain_steps=config.steps, references=0)


def parse_proxy(text: str) -> tuple[str, float]:
    """Name and strength from ``NAME=STRENGTH``; InputError if it is not of that form."""
    name, _, strength = text.partition("=")
    try:
        return name, float(strength)
    except ValueError:
        raise InputError(f"proxy: expected NAME=STRENGTH, got {text!r}") from None
