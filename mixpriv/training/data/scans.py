"""Real labelled heads as training targets, conformed as the client conforms them, and their reference model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixpriv.bundle import load_bundle
from mixpriv.datasets import find_heads
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from mixpriv.imaging.resample import conform_labels
from mixpriv.imaging.volume import load_volume
from mixpriv.labels import Labelling
from mixpriv.protection.reference import ReferenceModel
from mixpriv.timing import Timings
from mixpriv.training.config import JointConfig
from mixpriv.training.data.atlas import model_of_class_maps, normalised
from mixpriv.training.data.augment import displaced, move, one_hot, repaint, strongest
from mixpriv.training.data.synth import normalise
from mixpriv.training.specs import Folds


@dataclass(frozen=True)
class LabelledScan:
    """A conformed visit: images (M, D, H, W) float32, mask (D, H, W) bool, labels uint8."""

    subject: str
    images: NDArray[np.float32]
    mask: NDArray[np.bool_]
    labels: NDArray[np.uint8]


def deformed(
    scan: LabelledScan, window: tuple[slice, ...], config: JointConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Deform a scan smoothly and repaint each modality: images (M, D, H, W) float32 and labels uint8 in a window."""
    where = displaced(scan.mask.shape, config.task.grid_shape, config.data.augmentation, rng)
    labels = one_hot(torch.from_numpy(scan.labels), len(config.task.classes))
    images, mask, shares = move(torch.from_numpy(scan.images), torch.from_numpy(scan.mask), labels[1:], where)
    painted = [normalise(repaint(normalise(image, mask), rng), mask)[window] for image in images]
    return torch.stack(painted), (strongest(shares) * mask)[window]


class LabelledScans:
    """The training scans of a fold, deformed and repainted anew at every draw."""

    def __init__(self, scans: Sequence[LabelledScan], config: JointConfig, folds: Folds) -> None:
        self.scans, self.config, self.folds = scans, config, folds

    @staticmethod
    def read(folder: Path, config: JointConfig, folds: Folds) -> LabelledScans:
        """Read and conform all scans of a BIDS folder but those of the fold that is held out."""
        like = load_bundle(folds.extractor)
        bundle = replace(
            like, grid_shape=config.task.grid_shape, spacing_mm=config.task.spacing_mm, alignment=config.task.alignment
        )
        preprocess, cases = load_preprocessor(bundle), find_heads(folder)
        labelling = Labelling.numbered(config.task.classes)
        held_out = folds.subjects([case.subject for case in cases])
        scans = []
        for case in cases:
            if case.subject not in held_out:
                target = preprocess(load_volume(case.scan), Timings())
                labels = conform_labels(load_volume(case.labels), target.grid, labelling)
                mask = target.mask.astype(bool)
                scans.append(LabelledScan(case.subject, target.image[None], mask, (labels * mask).astype(np.uint8)))
        return LabelledScans(scans, config, folds)

    def draw(self, window: tuple[slice, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Deform a random scan smoothly, change its contrast."""
        return deformed(self.scans[int(rng.integers(len(self.scans)))], window, self.config, rng)

    def reference_model(self) -> ReferenceModel:
        """Average the label maps in the grid; one intensity class for each label."""
        folding, values = self.folds.folding, range(len(self.config.task.classes))
        return model_of_class_maps(
            ((scan.labels, normalised(scan.images[0], scan.mask)) for scan in self.scans),
            tissue_of=values,
            fold_rank=[folding.index(value) if value in folding else -1 for value in values],
            spacing_mm=self.config.task.spacing_mm,
            warp_mm=self.config.data.reference_warp_mm,
        )
