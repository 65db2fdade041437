"""Self-training: real scans without labels, with what a teacher, an earlier S, says of them for labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixpriv.bundle import load_bundle
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from mixpriv.imaging.volume import load_volume
from mixpriv.protection.reference import ReferenceModel
from mixpriv.timing import Timings
from mixpriv.training.config import JointConfig
from mixpriv.training.data.augment import displaced, move, repaint
from mixpriv.training.data.sources import Targets
from mixpriv.training.data.synth import normalise
from mixpriv.training.loop import Initial, autocast
from mixpriv.training.networks import SpaceToDepthUNet

_GAMMAS = (0.8, 1.0, 1.25)
"""Contrasts under which the teacher looks at a scan."""


@dataclass(frozen=True)
class SoftScan:
    """A conformed scan: image (D, H, W) float32, mask (D, H, W) bool, the teacher's shares (C, D, H, W) float16."""

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    shares: NDArray[np.float16]


@torch.no_grad()
def soft_labels(teacher: SpaceToDepthUNet, image: Tensor) -> Tensor:
    """Class probabilities (C, D, H, W) of an image (D, H, W): a mean over left-right flips and contrasts."""
    total = torch.zeros(())
    for gamma in _GAMMAS:
        seen = image.pow(gamma)[None, None]
        with autocast():
            answers = teacher(seen).float(), teacher(seen.flip(2)).flip(2).float()
        total = total + sum(answer.softmax(1)[0] for answer in answers)
    return total / (2 * len(_GAMMAS))


class WithUnlabelled:
    """Targets of which a share are real scans, deformed and repainted anew at every draw, with soft labels."""

    def __init__(self, labelled: Targets, scans: Sequence[SoftScan], config: JointConfig, share: float) -> None:
        self.labelled, self.scans, self.config, self.share = labelled, scans, config, share

    @staticmethod
    def read(labelled: Targets, config: JointConfig, folder: Path, teacher: Initial) -> WithUnlabelled:
        """Conform all scans of a BIDS folder but those held out, and ask the teacher.

        Raises
        ------
        InputError
            the config says nothing of such scans, or there are none.
        """
        settings = config.data.unlabelled
        if settings is None:
            raise InputError("--unlabelled: expected a config with [unlabelled], got one without")
        paths = [
            path for path in sorted(folder.glob("sub-*/**/*_T1w.nii.gz")) if _person(path) not in settings.held_out
        ]
        if not paths:
            raise InputError(f"{folder}: expected sub-*/**/*_T1w.nii.gz that are not held out, found none")
        network = SpaceToDepthUNet(len(config.task.modalities), len(config.task.classes), config.networks.filters)
        teacher.part("segmenter").load_into(network)
        like = load_bundle(settings.extractor)
        bundle = replace(
            like, grid_shape=config.task.grid_shape, spacing_mm=config.task.spacing_mm, alignment=config.task.alignment
        )
        preprocess, scans = load_preprocessor(bundle), []
        for path in paths:
            target = preprocess(load_volume(path), Timings())
            mask = target.mask.astype(bool)
            image = normalise(torch.from_numpy(target.image), torch.from_numpy(mask))
            scans.append(SoftScan(image.numpy(), mask, soft_labels(network, image).numpy().astype(np.float16)))
        return WithUnlabelled(labelled, scans, config, settings.share)

    def draw(self, window: tuple[slice, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A labelled target, or a real scan with the teacher's shares of the classes."""
        if rng.random() >= self.share:
            return self.labelled.draw(window, rng)
        scan, config = self.scans[int(rng.integers(len(self.scans)))], self.config
        where = displaced(scan.mask.shape, config.task.grid_shape, config.data.augmentation, rng)
        shares = torch.from_numpy(scan.shares[1:]).float()
        image, inside, moved = move(torch.from_numpy(scan.image)[None], torch.from_numpy(scan.mask), shares, where)
        painted = normalise(repaint(normalise(image[0], inside), rng), inside)
        moved = moved * inside
        return painted[window][None], torch.cat([1 - moved.sum(0, keepdim=True), moved])[(slice(None), *window)]

    def reference_model(self) -> ReferenceModel:
        """That of the labelled data: no real scan is ever a reference."""
        return self.labelled.reference_model()


def _person(path: Path) -> str:
    return path.name.split("_")[0]
