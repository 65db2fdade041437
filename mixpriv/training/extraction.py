"""Training of the brain extractor: whole and skull-stripped heads, any field of view, on a coarse isotropic grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceLoss
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mixpriv.training.data.labels import FIRST_OUTER, Head, load_heads
from mixpriv.training.data.real_heads import RealHead, load_real_heads, sample_real_head
from mixpriv.training.data.synth import imperfect_mask
from mixpriv.training.data.whole_heads import AUGMENTATION, paint_head, sample_head, shrunken, with_neck, without_face
from mixpriv.training.loop import Initial, autocast, fit
from mixpriv.training.networks import SpaceToDepthUNet
from mixpriv.training.specs import ExtractorConfig, Schedule

_FAR = 9
"""Voxels of a window around each: where none of them is brain, what is taken for it counts more."""
_FAR_COUNTS = 4.0
_MISSED_COUNTS = 1.5
"""A margin around the brain costs little; what is missed of it is lost to every later step."""


_REAL = 0.2
"""Share of real heads, where there are some."""


def example(
    config: ExtractorConfig, heads: Sequence[Head], real: Sequence[RealHead], step: int
) -> tuple[Tensor, Tensor]:
    """Image (1,1,D,H,W) float32 in [0, 1] and brain mask (1,1,D,H,W) float32 of a step."""
    rng = np.random.default_rng([config.seed, step])
    shape, jitter_mm = _field_of_view(config, rng)
    shift_mm = rng.normal(0, jitter_mm, 3)
    if real and rng.random() < _REAL:
        one = real[int(rng.integers(len(real)))]
        image, brain = sample_real_head(one, shift_mm, shape, config.spacing_mm, AUGMENTATION, rng)
    else:
        head = heads[int(rng.integers(len(heads)))]
        classes = sample_head(head, head.centre_mm + shift_mm, shape, config.spacing_mm, rng)
        brain = (classes > 0) & (classes < FIRST_OUTER)
        image = paint_head(classes, head, rng)
    what = rng.random()
    if what < 0.3:
        image = image * _strip(brain, rng)
    elif what < 0.45 and brain.any():
        image = without_face(image, brain, rng)
    if what >= 0.3 and rng.random() < 0.5:
        # noise of the air around the head
        image = image + torch.from_numpy(np.abs(rng.normal(0, rng.uniform(0, 0.04), shape)).astype(np.float32))
    low, high = (float(q) for q in np.percentile(image.numpy().ravel()[::7], (0.5, 99.5)))
    image = ((image - low) / max(high - low, 1e-6)).clamp_(0, 1)
    return image[None, None], brain[None, None].float()


def _field_of_view(config: ExtractorConfig, rng: np.random.Generator) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Size in voxels and how far from the brain its middle lies, standard deviation in mm."""
    if rng.random() < 0.6:
        # the client's second look: a window of this size around the brain that the first one found
        return config.crop, np.array([5.0, 6.0, 8.0])
    shape = [int(16 * rng.integers(n // 16 - 2, n // 16 + 2)) for n in config.crop]
    if rng.random() < 0.4:  # down to the shoulders
        shape[2] += int(16 * rng.integers(1, 4))
        return tuple(shape), np.array([12.0, 16.0, 35.0])
    return tuple(shape), np.array([12.0, 16.0, 22.0])


def _strip(brain: Tensor, rng: np.random.Generator) -> Tensor:
    """An earlier skull strip: exact, tight or generous, ragged."""
    grown = brain[None, None].float()
    for _ in range(int(rng.integers(0, 3))):
        grown = F.max_pool3d(grown, 3, 1, 1)
    return imperfect_mask(grown[0, 0] > 0.5, rng)


def _counts(brain: Tensor) -> Tensor:
    """How much each voxel of a mask (1,1,D,H,W) counts."""
    near = F.max_pool3d(brain, _FAR, 1, _FAR // 2)
    return 1 + (_MISSED_COUNTS - 1) * brain + (_FAR_COUNTS - 1) * (1 - near)


def train_extractor(
    config: ExtractorConfig,
    label_maps: Path,
    folder: Path,
    initial: Initial | None = None,
    real_heads: Path | None = None,
) -> Path:
    """Train the brain extractor, resuming from the folder; returns the path of the averaged weights."""
    torch.manual_seed(config.seed)
    heads = [with_neck(head) for head in load_heads(label_maps)]
    heads += [shrunken(head) for head in heads]
    real = [] if real_heads is None else list(load_real_heads(real_heads))
    model, dice = SpaceToDepthUNet(1, 1, config.filters), DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)

    def losses_at(step: int) -> dict[str, Tensor]:
        image, brain = example(config, heads, real, step)
        with autocast():
            logits = model(image)
        logits = logits.float()
        cross_entropy = F.binary_cross_entropy_with_logits(logits, brain, _counts(brain))
        return {"cross_entropy": cross_entropy, "dice": dice(logits, brain)}

    return fit(model, losses_at, Schedule(config.steps, config.learning_rate, config.decay_steps), folder, initial)
