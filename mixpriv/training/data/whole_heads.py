"""Synthetic whole heads for the brain extractor: every contrast, any field of view, of every age and size.

After SynthStrip (Hoopes et al., NeuroImage 2022): a network that has seen far more than what real scanners make finds
the brain in what they do make.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mixpriv.training.data.labels import FIRST_OUTER, Head
from mixpriv.training.data.synth import (
    Painting,
    class_means,
    nearest,
    paint_scan,
    positions,
    random_affine,
    smooth_noise,
)
from mixpriv.training.specs import Augmentation
from mixpriv.training.ventricles import widen

AUGMENTATION = Augmentation(rotation_deg=14.0, scale=0.12, shear=0.04, shift_voxels=0.0, elastic_voxels=1.2)

_NECK_MM = 110
_REPEATED_MM = 45
"""What lies lowest in a head is repeated below it, to and fro, where no brain is so near."""
_PATCHES = (62, 63)
"""Numbers of what is unlike its surroundings though the label maps do not tell it apart: muscles, fat, marrow."""


def with_neck(head: Head) -> Head:
    """The head on a neck of soft tissue, bone and cord, if its label map goes on far enough below the brain."""
    inside = np.flatnonzero(head.mask.any(axis=(0, 1)))
    if inside[0] <= _REPEATED_MM:
        return head
    below = np.pad(head.classes[:, :, :_REPEATED_MM], ((0, 0), (0, 0), (_NECK_MM, 0)), "reflect")[:, :, :_NECK_MM]
    classes = np.concatenate([below, head.classes], axis=2)
    mask = np.pad(head.mask, ((0, 0), (0, 0), (_NECK_MM, 0)))
    return replace(head, classes=classes, mask=mask, centre_mm=head.centre_mm + np.array([0, 0, _NECK_MM]))


def shrunken(head: Head) -> Head:
    """The head of somebody whose brain has shrunk: the cortex is thinner by up to 1 mm, CSF is in its place."""
    anatomy = head.anatomy
    csf = head.classes == anatomy.number("csf")
    cortex = np.isin(head.classes, [anatomy.number("cortex"), anatomy.number("cerebellar_cortex")])
    classes = head.classes.copy()
    classes[ndimage.binary_dilation(csf) & cortex] = anatomy.number("csf")
    return replace(head, classes=classes)


def sample_head(
    head: Head, middle: NDArray[np.float64], shape: tuple[int, ...], spacing_mm: float, rng: np.random.Generator
) -> Tensor:
    """Classes (D, H, W) uint8 of a head, deformed, of any age's size and ventricles, around ``middle`` of the map."""
    linear = random_affine(rng, AUGMENTATION) * spacing_mm
    if rng.random() < 0.1:  # an infant's
        linear *= rng.uniform(1.15, 1.55)
    matrix = np.column_stack([linear, middle - linear @ (np.array(shape) - 1) / 2])
    where = positions(matrix, shape, rng, AUGMENTATION.elastic_voxels)
    if rng.random() < 0.5:
        where = widen(where, head.towards_ventricles, float(rng.uniform(-1.5, 6.0)))
    return nearest(torch.from_numpy(head.classes), where)


def paint_head(classes: Tensor, head: Head, rng: np.random.Generator) -> Tensor:
    """Intensities (D, H, W) float32 of classes as any scanner and sequence might show them; bright fat and vessels."""
    classes = _patched(classes, rng)
    means = class_means(rng, head.anatomy) if rng.random() < 0.55 else _any_contrast(head, rng)
    outer = means[FIRST_OUTER + 1 :]
    outer[:] = rng.uniform(0.0, 1.1, len(outer))
    if rng.random() < 0.5:  # fat in clinical scans; vessels, dura and sinuses with a contrast agent
        bright = rng.random(len(outer)) < 0.25
        outer[bright] *= rng.uniform(1.0, 2.5)
    strong = rng.random() < 0.3
    painting = Painting(bias=0.5 if strong else 0.2, noise=0.08 if rng.random() < 0.2 else 0.035, thick=4.0)
    image = paint_scan([classes], rng, means, painting)
    return image if rng.random() < 0.85 else _ghosts(image, rng)


def _any_contrast(head: Head, rng: np.random.Generator) -> NDArray[np.float32]:
    """(64,) mean intensity per class: T2, PD, FLAIR, an infant's, and what no scanner shows."""
    white, grey, fluid = rng.uniform(0.05, 1.0, 3)
    means = np.zeros(64, np.float32)
    means[FIRST_OUTER] = fluid
    for number, name in enumerate(head.anatomy.parts, start=1):
        if name in ("ventricle", "csf"):
            means[number] = fluid
        elif name.endswith("_wm"):
            means[number] = white
        elif "cortex" in name or name == "hippocampus":
            means[number] = grey
        else:
            means[number] = rng.uniform(min(white, grey), max(white, grey))
    means[1:FIRST_OUTER] *= rng.uniform(0.85, 1.15, FIRST_OUTER - 1)
    return means


def _patched(classes: Tensor, rng: np.random.Generator) -> Tensor:
    """Patches of other tissue amid what lies outside the brain."""
    outer = classes > FIRST_OUTER
    for number in _PATCHES:
        if rng.random() < 0.6:
            noise = smooth_noise(rng, tuple(classes.shape), int(rng.integers(4, 14)))[0]
            patch = torch.tensor(number, dtype=torch.uint8)
            classes = torch.where(outer & (noise > float(rng.uniform(0.1, 0.9))), patch, classes)
    return classes


def _ghosts(image: Tensor, rng: np.random.Generator) -> Tensor:
    """A head that moved: weak copies of it, shifted along one axis."""
    axis = int(rng.integers(3))
    shift = int(rng.integers(4, image.shape[axis] // 2))
    strength = float(rng.uniform(0.02, 0.15))
    return image + strength * (image.roll(shift, axis) + image.roll(-shift, axis))


def without_face(image: Tensor, brain: Tensor, rng: np.random.Generator) -> Tensor:
    """What a tool leaves that takes faces away: nothing in front of a plane that does not meet the brain."""
    normal = np.array([rng.normal(0, 0.15), 1.0, -rng.uniform(0.1, 1.2)])
    axes = [
        torch.arange(n, dtype=torch.float32).view([-1 if a == k else 1 for a in range(3)])
        for k, n in enumerate(image.shape)
    ]
    height = sum((axis * float(n) for axis, n in zip(axes, normal, strict=True)), torch.zeros(()))
    edge = float(height[brain].max()) + float(rng.uniform(1, 8))
    return torch.where(height > edge, torch.zeros(()), image)
