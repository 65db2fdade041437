"""Real tumour scans of several modalities (BRATS folders) as training targets, and their reference model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mixpriv.bundle import load_bundle
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.preprocessor import Preprocessor, load_preprocessor
from mixpriv.imaging.resample import conform_labels
from mixpriv.imaging.volume import Volume, load_volume
from mixpriv.labels import Labelling
from mixpriv.protection.reference import ReferenceModel
from mixpriv.timing import Timings
from mixpriv.training.config import JointConfig
from mixpriv.training.data.atlas import class_means, normalised, ranges_of
from mixpriv.training.data.crops import by_brightness
from mixpriv.training.data.scans import LabelledScan, deformed
from mixpriv.training.specs import Tumours

_HEALTHY = 3
"""Tissues found by brightness: CSF, grey and white matter, in this order in a T1-weighted image."""

_BRIGHTNESS_OF = np.array([0, 3, 2, 2, 1, 1])
"""Which of them, from 1, the anatomy's tissues are: none, white matter, grey matter, nuclei, CSF inside and outside."""


def read_case(folder: Path, tumours: Tumours) -> tuple[Volume, Volume]:
    """Read the modalities as one image (I, J, K, M), and the label map.

    Raises
    ------
    InputError
        a file is missing or bad, or one has another grid than the first.
    """
    first, *others = (load_volume(folder / name) for name in (*tumours.images, tumours.labels))
    for other in others:
        if other.shape != first.shape or not np.allclose(other.affine, first.affine, atol=1e-2):
            raise InputError(f"{other.name}: expected the grid of {first.name}, got another")
    voxels = np.stack([image.voxels for image in (first, *others[:-1])], axis=-1)
    return replace(first, voxels=np.asfortranarray(voxels), name=str(folder)), others[-1]


class LabelledTumours:
    """The training cases of a folder, deformed and repainted anew at every draw."""

    def __init__(self, scans: Sequence[LabelledScan], config: JointConfig, tumours: Tumours) -> None:
        self.scans, self.config, self.tumours = scans, config, tumours

    @staticmethod
    def read(data: Path, config: JointConfig, tumours: Tumours) -> LabelledTumours:
        """Read and conform all cases: folders with a label map."""
        folders = sorted(path.parent for path in data.glob(f"*/{tumours.labels}"))
        if not folders:
            raise InputError(f"{data}: expected a folder for each case with {tumours.labels}, found none")
        bundle = replace(
            load_bundle(tumours.anatomy),
            grid_shape=config.task.grid_shape,
            spacing_mm=config.task.spacing_mm,
            alignment=config.task.alignment,
            extractor_spacing_mm=None,
        )
        preprocess = load_preprocessor(bundle)
        return LabelledTumours([_conformed(f, preprocess, config, tumours) for f in folders], config, tumours)

    def draw(self, window: tuple[slice, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Deform a random case smoothly, change the contrast of each modality."""
        return deformed(self.scans[int(rng.integers(len(self.scans)))], window, self.config, rng)

    def reference_model(self) -> ReferenceModel:
        """Give the anatomy of another bundle these modalities' intensities, and a blob in the tumour's layers.

        The atlas of so few cases would show them.
        """
        anatomy = ReferenceModel.load(load_bundle(self.tumours.anatomy).reference_path)
        if (anatomy.grid_shape, anatomy.spacing_mm) != (self.config.task.grid_shape, self.config.task.spacing_mm):
            raise InputError(f"config: expected [grid] to be that of {self.tumours.anatomy}")
        layers = np.array(self.tumours.layers)
        chosen = np.concatenate([_BRIGHTNESS_OF[anatomy.tissue_of], _HEALTHY + layers])
        first, *further = (table[chosen] for table in self._tables())
        return replace(
            anatomy,
            tissue_of=np.concatenate([np.zeros_like(anatomy.tissue_of), layers.astype(np.uint8)]),
            intensity_range=first,
            further_ranges=tuple(further),
            warp_mm=self.config.data.reference_warp_mm,
        )

    def _tables(self) -> list[NDArray[np.float32]]:
        """Range (K, 2) of each modality in background, healthy tissues and labels."""
        count = _HEALTHY + len(self.config.task.classes)
        painted = [(self._classes(scan), scan) for scan in self.scans]
        return [
            ranges_of([class_means(classes, normalised(s.images[m], s.mask), count) for classes, s in painted])
            for m in range(len(self.tumours.images))
        ]

    def _classes(self, scan: LabelledScan) -> NDArray[np.uint8]:
        """Healthy tissues by brightness from 1, then the labels; 0 outside the brain."""
        healthy = scan.mask & (scan.labels == 0)
        classes = np.where(scan.labels > 0, _HEALTHY + scan.labels, 0).astype(np.uint8)
        image = normalised(scan.images[self.tumours.tissues_in], scan.mask)
        classes[healthy] = 1 + by_brightness(image[healthy], _HEALTHY, scan.subject)
        return classes


def _conformed(folder: Path, preprocess: Preprocessor, config: JointConfig, tumours: Tumours) -> LabelledScan:
    scan, truth = read_case(folder, tumours)
    if not np.isin(truth.voxels, np.arange(len(config.task.classes))).all():
        raise InputError(f"{truth.name}: expected labels 0 to {len(config.task.classes) - 1}, got others")
    target = preprocess(scan, Timings())
    labels = conform_labels(truth, target.grid, Labelling.numbered(config.task.classes)) * target.mask
    images = target.images
    return LabelledScan(folder.name, images, target.mask.astype(bool), labels.astype(np.uint8))
