"""Synthetic T1-like scans from label maps, as the segmenter and the extractor will see real ones.

Domain randomisation after SynthSeg (Billot et al., Medical Image Analysis 2023), restricted to T1 ordering: random
affine and elastic deformation, class intensities, partial volume, bias field, thick slices, noise and an imperfect
brain mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mixpriv.training.data.labels import FIRST_OUTER, INTENSITY_CLASSES, TISSUE_OF, Head

_INDEX = {name: i for i, name in enumerate(INTENSITY_CLASSES)}


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the random deformation; ``flip``: probability of a left-right flip."""

    rotation_deg: float = 9.0
    scale: float = 0.05
    shear: float = 0.02
    shift_voxels: float = 2.0
    elastic_voxels: float = 1.6
    flip: float = 0.5


def random_affine(rng: np.random.Generator, augmentation: Augmentation) -> NDArray[np.float64]:
    """(3, 3) rotation (normal, standard deviation in degrees), scale and shear, with a random left-right flip."""
    angles = np.clip(rng.normal(0, augmentation.rotation_deg, 3), -25, 25) * np.pi / 180
    matrix = np.diag(np.exp(rng.normal(0, augmentation.scale, 3)))
    matrix += rng.normal(0, augmentation.shear, (3, 3)) * (1 - np.eye(3))
    for axis, angle in enumerate(angles):
        rotation = np.eye(3)
        p, q = [a for a in range(3) if a != axis]
        rotation[p, p] = rotation[q, q] = np.cos(angle)
        rotation[p, q], rotation[q, p] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ rotation
    if rng.random() < augmentation.flip:
        matrix[0] *= -1
    return np.asarray(matrix)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cell: int, channels: int = 1) -> Tensor:
    """(channels, D, H, W) smooth noise, about unit variance at the knots of a control grid ``cell`` voxels apart."""
    knots = [max(2, round(n / cell) + 1) for n in shape]
    coarse = torch.from_numpy(rng.standard_normal((1, channels, *knots), dtype=np.float32))
    return F.interpolate(coarse, shape, mode="trilinear", align_corners=True)[0]


def deform(
    classes: Tensor,
    matrix: NDArray[np.float64],
    shape: tuple[int, ...],
    rng: np.random.Generator,
    elastic_voxels: float,
) -> Tensor:
    """Sample a class map (uint8) at ``matrix`` (3, 4) x grid index, displaced smoothly (in grid voxels); nearest."""
    displacement = smooth_noise(rng, shape, 24, 3) * (elastic_voxels * rng.uniform(0, 2))
    displacement += smooth_noise(rng, shape, 8, 3) * (0.35 * elastic_voxels * rng.uniform(0, 1))
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    grid = [axis.view([-1 if a == k else 1 for a in range(3)]) + displacement[k] for k, axis in enumerate(axes)]
    flat = torch.zeros(shape, dtype=torch.int64)
    inside = torch.ones(shape, dtype=torch.bool)
    for row, size in zip(matrix, classes.shape, strict=True):
        source = (grid[0] * float(row[0])).add_(grid[1], alpha=float(row[1])).add_(grid[2], alpha=float(row[2]))
        source.add_(float(row[3])).round_()
        inside &= (source >= 0) & (source < size)
        flat.mul_(size).add_(source.clamp_(0, size - 1).long())
    return torch.where(inside, classes.flatten()[flat], torch.zeros((), dtype=torch.uint8))


def class_means(rng: np.random.Generator) -> NDArray[np.float32]:
    """(64,) mean intensity per class, T1-ordered; outer structures at random."""

    def between(low: float, high: float, a: float, b: float) -> float:
        return low + (high - low) * rng.uniform(a, b)

    wm = 1.0
    cortex = rng.uniform(0.45, 0.86)
    csf = cortex * (rng.uniform(0.05, 0.6) if rng.random() < 0.5 else rng.uniform(0.3, 0.97))
    ventricle = min(csf, cortex * rng.uniform(0.05, 0.6)) if rng.random() < 0.7 else cortex * rng.uniform(0.05, 0.7)
    means = np.zeros(64, np.float32)
    inner = {
        "cerebral_wm": wm, "cerebellar_wm": rng.uniform(0.86, 1.05), "brainstem": between(cortex, wm, 0.5, 1.05),
        "lesion": between(cortex, wm, 0.0, 0.9), "cortex": cortex,
        "cerebellar_cortex": cortex * rng.uniform(0.85, 1.15), "hippocampus": cortex * rng.uniform(0.92, 1.12),
        "caudate": between(cortex, wm, -0.05, 0.45),
        "putamen": between(cortex, wm, 0.05, 0.6), "pallidum": between(cortex, wm, 0.45, 1.05),
        "thalamus": between(cortex, wm, 0.25, 0.9), "ventricle": ventricle,
        "choroid": between(ventricle, cortex, 0.1, 1.1), "csf": csf,
    }  # fmt: skip
    for name, value in inner.items():
        means[_INDEX[name]] = value
    means[FIRST_OUTER] = csf
    means[FIRST_OUTER + 1 :] = rng.uniform(0.0, 1.1, 31)
    return means


def paint_scan(classes: Tensor, rng: np.random.Generator) -> Tensor:
    """Intensities (D, H, W) float32 for a class map: means, texture, gamma, bias field, resolution, noise."""
    means = class_means(rng)
    texture = np.abs(rng.normal(0, 0.035, 64)).astype(np.float32) + 0.005
    flat = classes.long()
    noise = torch.from_numpy(rng.standard_normal(tuple(classes.shape), dtype=np.float32))
    image = torch.from_numpy(means)[flat] + noise * torch.from_numpy(texture)[flat]
    # slow variation inside tissues: cortex is not one grey
    image *= 1 + smooth_noise(rng, classes.shape, 10)[0] * rng.uniform(0, 0.05)
    image = resolution(image, rng).clamp_(min=0).pow_(rng.uniform(0.8, 1.3))
    image *= torch.exp(smooth_noise(rng, classes.shape, 48)[0] * rng.uniform(0, 0.16))
    second = torch.from_numpy(rng.standard_normal(tuple(classes.shape), dtype=np.float32))
    return image.add_(second, alpha=float(rng.uniform(0, 0.035))).clamp_(min=0)


def resolution(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur (D, H, W), and now and then thick slices along one axis."""
    image = blur(image, float(rng.uniform(0.2, 0.85)))
    if rng.random() < 0.2:
        factors = np.ones(3)
        factors[rng.integers(3)] = rng.uniform(1.2, 3.3)
        small = [max(2, round(n / f)) for n, f in zip(image.shape, factors, strict=True)]
        coarse = F.interpolate(image[None, None], small, mode="area")
        image = F.interpolate(coarse, tuple(image.shape), mode="trilinear")[0, 0]
    return image


def blur(image: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur of (D, H, W), sigma in voxels (up to about 1.2)."""
    position = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (position / sigma) ** 2)
    kernel /= kernel.sum()
    out = image[None, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[axis + 2], padding[axis] = 5, 2
        out = F.conv3d(out, kernel.view(shape), padding=padding)
    return out[0, 0]


def imperfect_mask(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """The brain mask as an extractor would find it: its border moved by up to about a voxel, smoothly."""
    soft = blur(mask.float(), 1.1)
    threshold = 0.5 + rng.uniform(-0.25, 0.3) + smooth_noise(rng, mask.shape, 16)[0] * rng.uniform(0, 0.12)
    return soft > threshold


def normalise(image: Tensor, mask: Tensor) -> Tensor:
    """Clip to the mask's 0.5-99.5 percentiles, scale to [0, 1], zero outside: what the client does."""
    inside = image[mask]
    if inside.numel() < 100:
        return torch.zeros_like(image)
    sample = inside[:: max(1, inside.numel() // 50000)]
    low, high = (float(q) for q in np.percentile(sample.numpy(), (0.5, 99.5)))
    return ((image - low) / max(high - low, 1e-6)).clamp_(0, 1) * mask


def synthesise(
    head: Head,
    grid_to_head: NDArray[np.float64],
    window: tuple[slice, ...],
    rng: np.random.Generator,
    augmentation: Augmentation,
) -> tuple[Tensor, Tensor]:
    """One conformed training scan in a window of the bundle's grid.

    Returns the image (D, H, W) float32 in [0, 1], zero outside its mask, and the tissue labels (D, H, W) uint8.
    """
    start = np.array([s.start for s in window], float)
    shape = tuple(s.stop - s.start for s in window)
    linear = grid_to_head[:, :3] @ random_affine(rng, augmentation)
    centre = np.linalg.solve(grid_to_head[:, :3], head.centre_mm - grid_to_head[:, 3])
    shift = rng.normal(0, augmentation.shift_voxels, 3)
    matrix = np.column_stack([linear, head.centre_mm + linear @ (start - centre + shift)])
    classes = deform(torch.from_numpy(head.classes), matrix, shape, rng, augmentation.elastic_voxels)
    brain = (classes > 0) & (classes < FIRST_OUTER)
    mask = imperfect_mask(brain, rng)
    image = normalise(paint_scan(classes, rng), mask)
    tissue = torch.from_numpy(np.concatenate([TISSUE_OF, np.zeros(64 - len(TISSUE_OF), np.uint8)]))[classes.long()]
    return image, tissue
