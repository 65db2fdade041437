"""Synthetic T1-like scans from label maps, as the segmenter and the extractor will see real ones.

Domain randomisation after SynthSeg (Billot et al., Medical Image Analysis 2023), restricted to T1 ordering: random
affine and elastic deformation, class intensities, partial volume, bias field, thick slices, noise and an imperfect
brain mask.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mixpriv.training.data.labels import FIRST_OUTER, TISSUE_ANATOMY, Anatomy, Head
from mixpriv.training.specs import Augmentation
from mixpriv.training.ventricles import widen


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


def positions(
    matrix: NDArray[np.float64], shape: tuple[int, ...], rng: np.random.Generator, elastic_voxels: float
) -> list[Tensor]:
    """Where a grid's voxels lie in a class map, 3 of (D, H, W): ``matrix`` (3, 4) x index, displaced smoothly."""
    displacement = smooth_noise(rng, shape, 24, 3) * (elastic_voxels * rng.uniform(0, 2))
    displacement += smooth_noise(rng, shape, 8, 3) * (0.35 * elastic_voxels * rng.uniform(0, 1))
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    grid = [axis.view([-1 if a == k else 1 for a in range(3)]) + displacement[k] for k, axis in enumerate(axes)]
    result = []
    for row in matrix:
        source = (grid[0] * float(row[0])).add_(grid[1], alpha=float(row[1])).add_(grid[2], alpha=float(row[2]))
        result.append(source.add_(float(row[3])))
    return result


def nearest(classes: Tensor, where: Sequence[Tensor], offset: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Sample a class map (uint8) at positions (3 of (D, H, W)) plus an offset; 0 outside."""
    flat = torch.zeros(where[0].shape, dtype=torch.int64)
    inside = torch.ones(where[0].shape, dtype=torch.bool)
    for position, more, size in zip(where, offset, classes.shape, strict=True):
        source = (position + more).round_()
        inside &= (source >= 0) & (source < size)
        flat.mul_(size).add_(source.clamp_(0, size - 1).long())
    return torch.where(inside, classes.flatten()[flat], torch.zeros((), dtype=torch.uint8))


def deform(
    classes: Tensor,
    matrix: NDArray[np.float64],
    shape: tuple[int, ...],
    rng: np.random.Generator,
    elastic_voxels: float,
) -> Tensor:
    """Sample a class map (uint8) at ``matrix`` (3, 4) x grid index, displaced smoothly (in grid voxels); nearest."""
    return nearest(classes, positions(matrix, shape, rng, elastic_voxels))


def subsample(classes: Tensor, where: Sequence[Tensor], linear: NDArray[np.float64], count: int) -> list[Tensor]:
    """Class maps at ``count`` points along each axis of every voxel; ``linear`` (3, 3): what a voxel is in the map."""
    steps = (np.arange(count) + 0.5) / count - 0.5
    return [nearest(classes, where, linear @ np.array(step)) for step in itertools.product(steps, repeat=3)]


def class_means(rng: np.random.Generator, anatomy: Anatomy = TISSUE_ANATOMY) -> NDArray[np.float32]:
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
    means[FIRST_OUTER] = csf
    means[FIRST_OUTER + 1 :] = rng.uniform(0.0, 1.1, 31)
    if "accumbens" in anatomy.parts:
        inner |= _means_of_parts(rng, inner)
    for number, name in enumerate(anatomy.parts, start=1):
        means[number] = inner[name]
    return means


def _means_of_parts(rng: np.random.Generator, means: Mapping[str, float]) -> dict[str, float]:
    """Means of what tissues do not tell apart, near those of the neighbours that they resemble."""
    cortex, wm, ventricle = means["cortex"], means["cerebral_wm"], means["ventricle"]
    striatum = 0.5 * (means["caudate"] + means["putamen"])
    own = cortex + (wm - cortex) * rng.uniform(0.4, 1.05)
    return {
        "ventral_dc": 0.5 * (own + means["brainstem"]),
        "amygdala": means["hippocampus"] * rng.uniform(0.92, 1.06),
        "accumbens": striatum + rng.uniform(-0.35, 0.15) * max(striatum - 0.9 * cortex, 0.05),
        "third_ventricle": ventricle + (cortex - ventricle) * max(0.0, rng.uniform(-0.1, 0.1)),
        "fourth_ventricle": ventricle + (cortex - ventricle) * max(0.0, rng.uniform(-0.1, 0.1)),
        "claustrum": cortex + (wm - cortex) * rng.uniform(0.1, 0.9),
    }


@dataclass(frozen=True)
class Painting:
    """How far from perfect a scan may be: logarithm of its bias field, noise, slices as thick as so many voxels."""

    bias: float = 0.16
    noise: float = 0.035
    thick: float = 3.3


def paint_scan(
    maps: Sequence[Tensor], rng: np.random.Generator, means: NDArray[np.float32], painting: Painting = Painting()
) -> Tensor:
    """Intensities (D, H, W) float32: means, texture, gamma, bias field, resolution, noise.

    ``maps``: class maps (D, H, W), one for each point in a voxel, which has their mean. ``means``: of `class_means`.
    """
    mean_of = torch.from_numpy(means)
    texture = torch.from_numpy(np.abs(rng.normal(0, 0.035, 64)).astype(np.float32) + 0.005)
    shape = tuple(maps[0].shape)
    noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    image, rough = torch.zeros(shape), torch.zeros(shape)
    for classes in maps:
        flat = classes.long()
        image += mean_of[flat]
        rough += texture[flat]
    image = (image + noise * rough) / len(maps)
    # slow variation inside tissues: cortex is not one grey
    image *= 1 + smooth_noise(rng, shape, 10)[0] * rng.uniform(0, 0.05)
    image = resolution(image, rng, painting.thick).clamp_(min=0).pow_(rng.uniform(0.8, 1.3))
    image *= torch.exp(smooth_noise(rng, shape, 48)[0] * rng.uniform(0, painting.bias))
    second = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    return image.add_(second, alpha=float(rng.uniform(0, painting.noise))).clamp_(min=0)


def resolution(image: Tensor, rng: np.random.Generator, thick: float = 3.3) -> Tensor:
    """Blur (D, H, W), and now and then thick slices along one axis."""
    image = blur(image, float(rng.uniform(0.2, 0.85)))
    if rng.random() < 0.2:
        factors = np.ones(3)
        factors[rng.integers(3)] = rng.uniform(1.2, thick)
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

    Returns the image (D, H, W) float32 in [0, 1], zero outside its mask, and the labels (D, H, W) uint8; of several
    subsamples a voxel, the shares of the classes (C, D, H, W) float32.
    """
    start = np.array([s.start for s in window], float)
    shape = tuple(s.stop - s.start for s in window)
    linear = grid_to_head[:, :3] @ random_affine(rng, augmentation)
    centre = np.linalg.solve(grid_to_head[:, :3], head.centre_mm - grid_to_head[:, 3])
    shift = rng.normal(0, augmentation.shift_voxels, 3)
    matrix = np.column_stack([linear, head.centre_mm + linear @ (start - centre + shift)])
    where = positions(matrix, shape, rng, augmentation.elastic_voxels)
    if augmentation.ventricles_mm:
        where = widen(where, head.towards_ventricles, augmentation.ventricles_mm * float(rng.uniform(-1, 1)))
    maps = subsample(torch.from_numpy(head.classes), where, linear, augmentation.subsamples)
    inside = sum(((classes > 0) & (classes < FIRST_OUTER)).to(torch.uint8) for classes in maps)
    mask = imperfect_mask(torch.as_tensor(2 * inside > len(maps)), rng)
    image = normalise(paint_scan(maps, rng, class_means(rng, head.anatomy)), mask)
    class_of = torch.from_numpy(np.pad(head.anatomy.class_of, (0, 64 - len(head.anatomy.class_of))))
    labels = [class_of[classes.long()] for classes in maps]
    return image, labels[0] if len(labels) == 1 else shares_of(labels, len(head.anatomy.classes))


def shares_of(labels: Sequence[Tensor], classes: int) -> Tensor:
    """(C, D, H, W) float32: in how many of several label maps (D, H, W) a voxel is of each class, all together 1."""
    shares = torch.zeros(classes, *labels[0].shape)
    for one in labels:
        shares.scatter_add_(0, one.long()[None], torch.full((1, *one.shape), 1 / len(labels)))
    return shares
