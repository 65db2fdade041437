"""Training of the brain extractor: whole and skull-stripped heads, any field of view, on a coarse isotropic grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from mixpriv.training.data.labels import FIRST_OUTER, Head, load_heads
from mixpriv.training.data.synth import deform, imperfect_mask, paint_scan, random_affine
from mixpriv.training.loop import Initial, autocast, fit
from mixpriv.training.networks import SpaceToDepthUNet
from mixpriv.training.specs import Augmentation, ExtractorConfig, Schedule

_AUGMENTATION = Augmentation(rotation_deg=12.0, scale=0.12, shear=0.03, shift_voxels=0.0, elastic_voxels=1.0)


def example(config: ExtractorConfig, heads: list[Head], step: int) -> tuple[Tensor, Tensor]:
    """Image (1,1,D,H,W) float32 in [0, 1] and brain mask (1,1,D,H,W) float32 of a step."""
    rng = np.random.default_rng([config.seed, step])
    head = heads[int(rng.integers(len(heads)))]
    linear = random_affine(rng, _AUGMENTATION) * config.spacing_mm
    if rng.random() < 0.65:
        # the client's second look: a window of this size around the brain that the first one found
        shape: tuple[int, ...] = config.crop
        jitter_mm = (5.0, 6.0, 8.0)
    else:
        shape = tuple(int(16 * rng.integers(n // 16 - 2, n // 16 + 2)) for n in config.crop)
        jitter_mm = (12.0, 16.0, 22.0)
    middle = head.centre_mm + rng.normal(0, jitter_mm, 3)
    matrix = np.column_stack([linear, middle - linear @ (np.array(shape) - 1) / 2])
    classes = deform(torch.from_numpy(head.classes), matrix, shape, rng, _AUGMENTATION.elastic_voxels)
    brain = (classes > 0) & (classes < FIRST_OUTER)
    image = paint_scan([classes], rng)
    if rng.random() < 0.35:
        image = image * _strip(brain, rng)
    elif rng.random() < 0.5:
        # noise of the air around the head
        image = image + torch.from_numpy(np.abs(rng.normal(0, rng.uniform(0, 0.04), shape)).astype(np.float32))
    low, high = (float(q) for q in np.percentile(image.numpy().ravel()[::7], (0.5, 99.5)))
    image = ((image - low) / max(high - low, 1e-6)).clamp_(0, 1)
    return image[None, None], brain[None, None].float()


def _strip(brain: Tensor, rng: np.random.Generator) -> Tensor:
    """An earlier skull strip: exact, tight or generous, ragged."""
    grown = brain[None, None].float()
    for _ in range(int(rng.integers(0, 3))):
        grown = F.max_pool3d(grown, 3, 1, 1)
    return imperfect_mask(grown[0, 0] > 0.5, rng)


def train_extractor(config: ExtractorConfig, label_maps: Path, folder: Path, initial: Initial | None = None) -> Path:
    """Train the brain extractor, resuming from the folder; returns the path of the averaged weights."""
    torch.manual_seed(config.seed)
    heads = list(load_heads(label_maps))
    model, dice = SpaceToDepthUNet(1, 1, config.filters), DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)

    def losses_at(step: int) -> dict[str, Tensor]:
        image, brain = example(config, heads, step)
        with autocast():
            logits = model(image)
        logits = logits.float()
        return {"cross_entropy": F.binary_cross_entropy_with_logits(logits, brain), "dice": dice(logits, brain)}

    return fit(model, losses_at, Schedule(config.steps, config.learning_rate), folder, initial)
