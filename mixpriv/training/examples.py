"""What a training step is made of: targets, references from the clients' own generator, mixtures of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mixpriv import kernels
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import ReferenceModel, draw_labels, paint
from mixpriv.protection.warp import Warp, displacement, draw_warp
from mixpriv.training.config import JointConfig
from mixpriv.training.data.augment import one_hot
from mixpriv.training.data.sources import Targets
from mixpriv.training.rivals import protect_example


def seed_stream(seed: int, index: int) -> Keystream:
    """The reference stream of a training run: public, unlike a client's."""
    return Keystream(np.random.SeedSequence([seed, index]).generate_state(8).astype("<u4").tobytes())


class ReferencePool:
    """A few hundred label draws of the generator that clients use, each made when it is first needed.

    Intensities are drawn anew each time.
    """

    def __init__(self, model: ReferenceModel, seed: int, count: int) -> None:
        self.model, self.seed, self.count = model, seed, count
        self._drawn: dict[int, NDArray[np.uint8]] = {}

    def _labels(self, index: int) -> NDArray[np.uint8]:
        if index not in self._drawn:
            self._drawn[index] = draw_labels(self.model, seed_stream(self.seed, index))
        return self._drawn[index]

    def draw(self, window: tuple[slice, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images (M, D, H, W) float32 and labels uint8 of a random reference in a window, flipped at random."""
        labels = self._labels(int(rng.integers(self.count)))
        if rng.random() < 0.5:
            labels = labels[::-1]
        labels = np.ascontiguousarray(labels[window])
        stream = seed_stream(self.seed, int(rng.integers(1 << 40)) + self.count)
        images = [paint(labels, table, self.model.spacing_mm, stream) for table in self.model.intensity_ranges]
        return torch.from_numpy(np.stack(images)), torch.from_numpy(self.model.tissue_of[labels])


@dataclass(frozen=True)
class Example:
    """A step's examples: images (N,M,D,H,W), targets one-hot (N,C,D,H,W), references one-hot or None, weights (N,).

    ``target_image`` and ``reference_image`` (N,M,D,H,W) are there whenever the reference is. ``back``: where warped
    images are to be sampled to undo that (N,D,H,W,3), None if they are not warped.
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

    def unwarped(self, probabilities: Tensor) -> Tensor:
        """Class probabilities (N,C,D,H,W) of what S saw, warped back; beyond the grid all is background."""
        if self.back is None:
            return probabilities
        moved = F.grid_sample(probabilities, self.back, align_corners=True)
        return torch.cat([moved[:, :1] + 1 - moved.sum(1, keepdim=True), moved[:, 1:]], 1)


@dataclass(frozen=True)
class _Part:
    """One image of a batch with its labels; in a mixture also what it is mixed of, and the way back from its warp."""

    image: Tensor
    labels: Tensor
    weight: float = 1.0
    scan: Tensor | None = None
    other: Tensor | None = None
    other_labels: Tensor | None = None
    back: Tensor | None = None


class Examples:
    """Training examples by step; step k depends on the seed and k alone."""

    def __init__(self, config: JointConfig, targets: Targets, pool: ReferencePool) -> None:
        self.config, self.targets, self.pool = config, targets, pool
        self._warps: dict[int, Warp] = {}

    def at(self, step: int) -> Example:
        """The examples of a step: plain (weight 1) for the first steps and a share of the others, else mixtures."""
        config, mixing, rng = self.config, self.config.mixing, np.random.default_rng([self.config.seed, step])
        plain = step < mixing.plain_steps or rng.random() < mixing.plain_share
        plain = plain and (config.lone_unmixer or not config.frozen)
        # nothing is drawn where there is no such share: examples stay those of earlier trainings
        shielded = not plain and mixing.shielded_share > 0 and rng.random() < mixing.shielded_share
        parts = []
        for _ in range(config.data.batch):
            start = [
                int(rng.integers(n - c + 1)) for n, c in zip(config.task.grid_shape, config.data.crop, strict=True)
            ]
            window = tuple(slice(s, s + c) for s, c in zip(start, config.data.crop, strict=True))
            target = self._target(window, rng)
            parts.append(target if plain else self._mixture(target, window, rng, shielded=shielded))
        return _batch(parts, len(config.task.classes))

    def _target(self, window: tuple[slice, ...], rng: np.random.Generator) -> _Part:
        image, labels = self.targets.draw(window, rng)
        if self.config.rival is not None:
            labels = labels if labels.ndim == 3 else labels.argmax(0).to(torch.uint8)
            seen, labels = protect_example(self.config.rival, image[0], labels, self.config.task.spacing_mm, rng)
            image = seen[None]
        return _Part(image, labels)

    def _mixture(self, target: _Part, window: tuple[slice, ...], rng: np.random.Generator, *, shielded: bool) -> _Part:
        mixing, back = self.config.mixing, None
        weight = float(rng.uniform(*(mixing.shielded_range if shielded else mixing.weight_range)))
        other, other_labels = self.pool.draw(window, rng)
        image = (weight * target.image + (1 - weight) * other).half().float()
        if shielded:
            image, back = warped(image, self._warp(int(rng.integers(max(1, self.config.data.references)))))
        return _Part(image, target.labels, weight, target.image, other, other_labels, back)

    def _warp(self, index: int) -> Warp:
        """One of as many warps as there are references."""
        if index not in self._warps:
            stream, config = seed_stream(self.config.seed + 1, index), self.config
            mean_mm = config.mixing.shielded_warp_mm
            self._warps[index] = draw_warp(stream, config.data.crop, mean_mm, config.task.spacing_mm)
        return self._warps[index]


def _batch(parts: Sequence[_Part], classes: int) -> Example:
    def stacked(name: str) -> list[Tensor]:
        return [value for value in (getattr(part, name) for part in parts) if value is not None]

    references = stacked("other_labels")
    scans, others, backs = (torch.stack(found) if (found := stacked(n)) else None for n in ("scan", "other", "back"))
    return Example(
        torch.stack([part.image for part in parts]),
        _shares([part.labels for part in parts], classes),
        _shares(references, classes) if references else None,
        torch.tensor([part.weight for part in parts]),
        scans,
        others,
        backs,
    )


def _shares(labels: Sequence[Tensor], classes: int) -> Tensor:
    """N label maps (D, H, W), or shares of the classes (C, D, H, W), to (N, C, D, H, W) float32."""
    stacked = torch.stack(list(labels))
    return stacked if labels[0].ndim == 4 else one_hot(stacked, classes)


class Ahead:
    """Makes the next step's example beside a step, in a thread: half of the work of making one is outside Python."""

    def __init__(self, make: Callable[[int], Example]) -> None:
        self._make, self._pool = make, ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Example]] | None = None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> Example:
        """The example of a step."""
        if self._next is not None and self._next[0] == step:
            example = self._next[1].result()
        else:
            example = self._pool.submit(self._make, step).result()
        self._next = step + 1, self._pool.submit(self._make, step + 1)
        return example


def warped(image: Tensor, warp: Warp) -> tuple[Tensor, Tensor]:
    """Warp images (M, D, H, W); with where to sample what comes of them to undo that, (D, H, W, 3)."""
    shape = (image.shape[1], image.shape[2], image.shape[3])
    moved = torch.from_numpy(kernels.warp(image.numpy(), *warp.forward)).half().float()
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    moves = displacement(warp.inverse, shape)
    place = [m * np.float32(2 / (n - 1)) + a for m, n, a in zip(moves, shape, np.ix_(*axes), strict=True)]
    return moved, torch.from_numpy(np.stack(place[::-1], -1))
