"""Real labelled crops (Medical Segmentation Decathlon layout) as training targets, and their reference model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2
from torch import Tensor
from torch.nn import functional as F

from mixpriv.datasets import split
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.crop import first_voxel, turned
from mixpriv.imaging.volume import load_volume
from mixpriv.protection.reference import ReferenceModel
from mixpriv.training.config import JointConfig
from mixpriv.training.data.atlas import model_of_class_maps, normalised
from mixpriv.training.data.augment import displaced, one_hot, repaint, strongest
from mixpriv.training.data.synth import normalise
from mixpriv.training.specs import Region


@dataclass(frozen=True)
class LabelledCrop:
    """A crop in R, A, S order at the bundle's spacing: image (I, J, K) float32, labels (I, J, K) uint8."""

    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]


def read_crop(image: Path, labels: Path, spacing_mm: float, classes: int) -> LabelledCrop:
    """Read one labelled crop.

    Raises
    ------
    InputError
        image and labels differ in shape, the voxels are not of the bundle's spacing, or a label is unknown.
    """
    scan, truth = load_volume(image), load_volume(labels)
    if scan.voxels.shape != truth.voxels.shape:
        raise InputError(f"{truth.name}: expected shape {scan.voxels.shape} as the image, got {truth.voxels.shape}")
    if not np.allclose(scan.spacing_mm, spacing_mm, rtol=0.02):
        raise InputError(f"{scan.name}: expected voxels of {spacing_mm} mm for training, got {tuple(scan.spacing_mm)}")
    if not np.isin(truth.voxels, np.arange(classes)).all():
        raise InputError(f"{truth.name}: expected labels 0 to {classes - 1}, got others")
    both = [np.ascontiguousarray(turned(volume).voxels) for volume in (scan, truth)]
    return LabelledCrop(image.name.split(".")[0], both[0], both[1].astype(np.uint8))


def place(size: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """Where the client puts a crop of a size in the bundle's grid, both in voxels of one spacing."""
    return tuple(slice(n, n + s) for n, s in zip(first_voxel(size, shape), size, strict=True))


class LabelledCrops:
    """The training crops of a folder, deformed and repainted anew at every draw."""

    def __init__(self, crops: Sequence[LabelledCrop], config: JointConfig, region: Region) -> None:
        self.crops, self.config, self.region = crops, config, region
        for crop in crops:
            if any(s > n for s, n in zip(crop.image.shape, config.task.grid_shape, strict=True)):
                raise InputError(
                    f"{crop.name}: expected at most {config.task.grid_shape} voxels, got {crop.image.shape}"
                )

    @staticmethod
    def read(folder: Path, config: JointConfig, region: Region) -> LabelledCrops:
        """Read all crops that are not held out from ``imagesTr`` and ``labelsTr``."""
        paths = {path.name: path for path in sorted((folder / "imagesTr").glob("[!.]*.nii.gz"))}
        if not paths:
            raise InputError(f"{folder}: expected images in imagesTr and labels in labelsTr, found none")
        training, _ = split(list(paths), region.held_out_every)
        crops = [
            read_crop(paths[name], folder / "labelsTr" / name, config.task.spacing_mm, len(config.task.classes))
            for name in training
        ]
        return LabelledCrops(crops, config, region)

    def draw(self, window: tuple[slice, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Deform a random crop smoothly, cut it to another field of view, change its contrast."""
        crop, shape = self.crops[int(rng.integers(len(self.crops)))], self.config.task.grid_shape
        image, labels = self._deform(crop, rng)
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[_another_box(crop.image.shape, shape, rng)] = True
        image = normalise(repaint(normalise(image, mask), rng), mask)
        return image[window][None], (labels * mask)[window]

    def _deform(self, crop: LabelledCrop, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Sample image (mirrored at its border) and labels (nothing beyond it) at smoothly displaced grid points."""
        where = displaced(crop.image.shape, self.config.task.grid_shape, self.config.data.augmentation, rng)
        known = one_hot(torch.from_numpy(crop.labels), len(self.config.task.classes))[None, 1:]
        image = torch.from_numpy(crop.image)[None, None]
        image = F.grid_sample(image, where, padding_mode="reflection", align_corners=True)[0, 0]
        shares = F.grid_sample(known, where, padding_mode="zeros", align_corners=True)[0]
        return image, strongest(shares)

    def reference_model(self) -> ReferenceModel:
        """Average the crops' tissues (k-means of the intensities outside the labels) and labels in the grid."""
        config, tissues = self.config, self.region.tissues
        labels = range(1, len(config.task.classes))
        return model_of_class_maps(
            (self._painted(crop) for crop in self.crops),
            tissue_of=[0] * (1 + tissues) + list(labels),
            fold_rank=[-1, *range(tissues), *(-1 for _ in labels)],
            spacing_mm=config.task.spacing_mm,
            warp_mm=config.data.reference_warp_mm,
        )

    def _painted(self, crop: LabelledCrop) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Class map and normalised image of a crop in the grid."""
        image = normalised(crop.image)
        box = place(crop.image.shape, self.config.task.grid_shape)
        placed = np.zeros(self.config.task.grid_shape, np.uint8), np.zeros(self.config.task.grid_shape, np.float32)
        placed[0][box], placed[1][box] = _classes(crop, image, self.region.tissues), image
        return placed


def _another_box(size: Sequence[int], shape: Sequence[int], rng: np.random.Generator) -> tuple[slice, ...]:
    """The field of view of a crop in the grid, each side moved by up to three voxels."""
    box = place(size, shape)
    moved = [(b.start + int(rng.integers(-3, 4)), b.stop + int(rng.integers(-3, 4))) for b in box]
    return tuple(slice(max(0, low), min(n, high)) for (low, high), n in zip(moved, shape, strict=True))


def _classes(crop: LabelledCrop, image: NDArray[np.float32], tissues: int) -> NDArray[np.uint8]:
    """Class map (I, J, K) of a normalised crop: tissues by brightness from 1, then the labels."""
    classes = 1 + by_brightness(image.ravel(), tissues, crop.name).reshape(image.shape)
    return np.where(crop.labels > 0, tissues + crop.labels, classes).astype(np.uint8)


def by_brightness(values: NDArray[np.float32], tissues: int, name: str) -> NDArray[np.intp]:
    """Tissue (n,) of each voxel (n,), from 0, dark to bright, by k-means.

    Raises
    ------
    InputError
        naming the image: its values are not of so many kinds.
    """
    start = np.quantile(values, np.linspace(0, 1, 2 * tissues + 1)[1::2])
    try:
        centres, which = kmeans2(values.reshape(-1, 1), start[:, None], minit="matrix", missing="raise")
    except ClusterError:
        raise InputError(f"{name}: expected {tissues} tissues that differ in brightness, got fewer") from None
    rank = np.argsort(np.argsort(centres[:, 0]))
    return np.asarray(rank[which])
