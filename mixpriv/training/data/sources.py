"""Where a training target comes from: a synthetic scan of a labelled head, or a real scan or crop, made different."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from mixpriv.errors import InputError
from mixpriv.protection.reference import ReferenceModel
from mixpriv.training.config import JointConfig
from mixpriv.training.data.atlas import fit_reference_model, grid_to_head
from mixpriv.training.data.crops import LabelledCrops
from mixpriv.training.data.labels import Head, anatomy_of, load_heads
from mixpriv.training.data.scans import LabelledScans
from mixpriv.training.data.synth import synthesise
from mixpriv.training.data.tumours import LabelledTumours


class Targets(Protocol):
    """A source of conformed, labelled training scans, and what its references are drawn from."""

    def draw(self, window: tuple[slice, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images (M, D, H, W) float32 in [0, 1], zero outside their mask, in a window, and its labels.

        Labels are (D, H, W) uint8, or the shares of the classes in each voxel (C, D, H, W) float32.
        """
        ...

    def reference_model(self) -> ReferenceModel:
        """Fit the generator of references to the same data."""
        ...


class SyntheticHeads:
    """Synthetic scans painted from anatomical label maps."""

    def __init__(self, heads: Sequence[Head], config: JointConfig) -> None:
        if config.task.alignment is None:
            raise InputError("config: expected std_mm and centre_voxel in [grid] for heads")
        self.config, self.heads, self.alignment = config, heads, config.task.alignment
        self.matrices = [grid_to_head(head, self.alignment, config.task.spacing_mm) for head in heads]

    def draw(self, window: tuple[slice, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Paint a random head."""
        which = int(rng.integers(len(self.heads)))
        image, labels = synthesise(self.heads[which], self.matrices[which], window, rng, self.config.data.augmentation)
        return image[None], labels

    def reference_model(self) -> ReferenceModel:
        """Average the heads."""
        config = self.config
        return fit_reference_model(
            self.heads, self.alignment, config.task.grid_shape, config.task.spacing_mm, config.data.reference_warp_mm
        )


def open_targets(config: JointConfig, data: Path) -> Targets:
    """Read the training data of a config: crops (MSD layout) with a region, scans (BIDS) with folds, else label maps.

    With tumours it is a folder for each case.

    Raises
    ------
    InputError
        nothing there, or labels that the config does not know.
    """
    if config.data.region is not None:
        return LabelledCrops.read(data, config, config.data.region)
    if config.data.folds is not None:
        return LabelledScans.read(data, config, config.data.folds)
    if config.data.tumours is not None:
        return LabelledTumours.read(data, config, config.data.tumours)
    return SyntheticHeads(list(load_heads(data, anatomy_of(config.task.classes))), config)
