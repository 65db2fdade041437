"""What can be seen of a result without knowing the truth: how sure it is, how it is shaped, and whether the image fits.

All of it is measured in a coarser copy, every `STEP`-th voxel of the bundle's grid along each axis: that is enough, and
takes some milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv import kernels
from mixpriv.imaging.resample import Conformed

STEP = 2
LARGE = 0.05
"""Of a class's voxels: a smaller piece is a fragment."""

EDGE_MM = 2.0

Values = NDArray[np.float64]
Labels = NDArray[np.uint8]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Signs:
    """What is measured of a result. Arrays have a value for each of the C-1 classes but the background.

    Attributes
    ----------
    mask_ml : volume of the mask
    certainty : Dice that the probabilities themselves expect: of a class's probabilities with its labels
    share : of the mask's voxels
    left : of the class's voxels, how many lie in the left half
    mirrored : Dice of a class with its own mirror image
    fragments : of the class's voxels, how many belong to small pieces
    place, spread : (C-1, 3), mean and deviation of the class's positions along R, A, S, voxels of the bundle's grid
    outside : share of the mask that is labelled background
    contrast, smooth_contrast : how much of the variance of the intensities in the mask, as they are and smoothed, the
        labels explain, 0 to 1
    step, steadiness : between neighbours of different labels: how steep the image is by what the classes' means differ,
        and how much of all its steps are there
    grain : difference of a voxel and the mean of its neighbours, by the deviation of all
    border : share of neighbours that have different labels
    cut_cm2 : area of the labels at the border of the scan's field of view
    agreement : mean Dice of what each of several references gives, by itself; None of one
    """

    mask_ml: float
    certainty: Values
    share: Values
    left: Values
    mirrored: Values
    fragments: Values
    place: Values
    spread: Values
    outside: float
    contrast: float
    smooth_contrast: float
    step: float
    steadiness: float
    grain: float
    border: float
    cut_cm2: float
    agreement: float | None = None


def signs_of(
    probabilities: NDArray[np.float32],
    conformed: Conformed,
    restored: Labels,
    spacing_mm: NDArray[np.float64],
    each: Sequence[Labels] = (),
) -> Signs:
    """Measure a result.

    Parameters
    ----------
    probabilities : (C, D, H, W) float32 on any positive scale
    conformed : the scan in the same grid
    restored, spacing_mm : (I, J, K) uint8, the labels in the scan's own grid, and the distance of its voxels
    each : the `coarse_labels` of each reference, if there are several
    """
    inside = coarse(conformed.mask) != 0
    sampled = coarse(probabilities)
    classes = len(sampled)
    labels = sampled.argmax(axis=0).astype(np.uint8) * inside
    found = labels[inside]
    counts = np.bincount(found, minlength=classes)
    likely = sampled[:, inside]
    likely /= np.maximum(likely.sum(axis=0), 1e-30)
    right = np.bincount(found, likely[found, np.arange(len(found))], classes)
    place, spread, left = _moments(labels, classes, counts)
    contrast, smooth_contrast, step, steadiness, grain = map(float, _image_signs(conformed, labels, inside))
    return Signs(
        mask_ml=conformed.mask_ml,
        certainty=_dice(right, likely.sum(axis=1), counts)[1:],
        share=counts[1:] / max(len(found), 1),
        left=left,
        mirrored=_overlap(labels, labels[::-1], classes),
        fragments=np.array([_fragments(labels == k) for k in range(1, classes)]),
        place=place,
        spread=spread,
        outside=counts[0] / max(len(found), 1),
        contrast=contrast,
        smooth_contrast=smooth_contrast,
        step=step,
        steadiness=steadiness,
        grain=grain,
        border=_border(labels, inside),
        cut_cm2=_cut_cm2(restored, spacing_mm),
        agreement=_agreement(each, inside, classes),
    )


def coarse(volume: NDArray[T]) -> NDArray[T]:
    """Every `STEP`-th voxel of (..., D, H, W)."""
    return volume[..., ::STEP, ::STEP, ::STEP]


def coarse_labels(probabilities: NDArray[np.float32]) -> Labels:
    """The strongest class, in the coarser copy."""
    return np.asarray(coarse(probabilities).argmax(axis=0), np.uint8)


class References:
    """Sees the sum of the probabilities after each reference, and keeps what that one gives by itself."""

    def __init__(self) -> None:
        self.labels: list[Labels] = []
        self._before: NDArray[np.float32] | None = None

    def __call__(self, total: NDArray[np.float32]) -> None:
        """Look at the sum, (C, D, H, W)."""
        now = coarse(total).copy()
        self.labels.append(np.asarray((now if self._before is None else now - self._before).argmax(axis=0), np.uint8))
        self._before = now


def _dice(both: NDArray[Any], one: NDArray[Any], other: NDArray[Any]) -> Values:
    """Dice of each class; one that nobody has is right."""
    total = one + other
    return np.where(total > 0, 2 * both / np.maximum(total, 1e-30), 1.0)


def _overlap(one: Labels, other: Labels, classes: int) -> Values:
    """Dice of two label maps, class by class."""
    both = np.bincount(one[one == other], minlength=classes)
    sizes = (np.bincount(labels.ravel(), minlength=classes) for labels in (one, other))
    return _dice(both, *sizes)[1:]


def _moments(labels: Labels, classes: int, counts: NDArray[np.intp]) -> tuple[Values, Values, Values]:
    """Mean and deviation of each class's positions, and the share of it that lies left of the middle."""
    where = np.nonzero(labels)
    found, number = labels[where], np.maximum(counts, 1)
    mean = np.empty((classes - 1, 3))
    deviation = np.empty((classes - 1, 3))
    for axis, index in enumerate(where):
        position = STEP * index.astype(np.float64)
        mean[:, axis] = (np.bincount(found, position, classes) / number)[1:]
        squares = (np.bincount(found, position**2, classes) / number)[1:]
        deviation[:, axis] = np.sqrt(np.maximum(squares - mean[:, axis] ** 2, 0))
    middle = (labels.shape[0] - 1) / 2  # R, A, S: small indices are left
    return mean, deviation, (np.bincount(found, where[0] < middle, classes) / number)[1:]


def _fragments(mask: NDArray[np.bool_]) -> float:
    """Share of a mask that belongs to small pieces; 1 of an empty one."""
    if not mask.any():
        return 1.0
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    pieces, _ = ndimage.label(mask[box])
    sizes = np.bincount(pieces.ravel())[1:]
    return float(sizes[sizes < LARGE * sizes.sum()].sum() / sizes.sum())


def _border(labels: Labels, inside: NDArray[np.bool_]) -> float:
    changes = sum(np.count_nonzero(np.diff(labels.astype(np.int16), axis=axis)) for axis in range(3))
    return changes / (3 * max(int(np.count_nonzero(inside)), 1))


def _cut_cm2(labels: Labels, spacing_mm: NDArray[np.float64]) -> float:
    """Area of what is labelled near the six faces of the field of view: next to them the restored mask may end."""
    total = 0.0
    for axis in range(3):
        depth = min(round(EDGE_MM / spacing_mm[axis]), labels.shape[axis] - 1)
        area_cm2 = float(np.prod(np.delete(spacing_mm, axis))) / 100
        along = np.moveaxis(labels, axis, 0)  # a view; take would copy the whole map first
        ends = (along[depth], along[-1 - depth])
        total += area_cm2 * sum(np.count_nonzero(plane) for plane in ends)
    return total


def _image_signs(conformed: Conformed, labels: Labels, inside: NDArray[np.bool_]) -> Values:
    """Contrast, smooth contrast, step, steadiness and grain; of several modalities their means."""
    whole, found = conformed.mask != 0, []
    for image, (low, high) in zip(conformed.images, conformed.intensity_ranges, strict=True):
        scale = 1 / max(high - low, 1e-30)
        grey, smooth = (
            np.clip((part - low) * scale, 0, 1).astype(np.float64)
            for part in (coarse(image), kernels.block_mean(image, (STEP, STEP, STEP)))
        )
        contrast, painted = _explained(grey, labels, inside)
        grain = float(np.mean([_roughness(image, whole, axis) for axis in range(3)])) * scale
        deviation = max(float(grey[inside].std()), 1e-6)
        found.append(
            (contrast, _explained(smooth, labels, inside)[0], *_steps(grey, painted, inside), grain / deviation)
        )
    return np.asarray(np.mean(found, axis=0))


def _explained(grey: Values, labels: Labels, inside: NDArray[np.bool_]) -> tuple[float, Values]:
    """Share of the variance inside that the labels explain; and the image of the classes' means."""
    values, classes = grey[inside], labels[inside]
    means = np.bincount(classes, values) / np.maximum(np.bincount(classes), 1)
    painted = means[labels]
    return 1 - float(np.mean((values - painted[inside]) ** 2)) / max(float(values.var()), 1e-12), painted


def _steps(grey: Values, painted: Values, inside: NDArray[np.bool_]) -> tuple[float, float]:
    """How steep the image is where the classes' means are, and how much of all its steps are there (squared r)."""
    both = ours = theirs = 0.0
    for axis in range(3):
        ahead, behind = (
            tuple(slice(*ends) if a == axis else slice(None) for a in range(3)) for ends in ((1, None), (None, -1))
        )
        valid = inside[ahead] & inside[behind]
        step, expected = (np.diff(image, axis=axis)[valid] for image in (grey, painted))
        both, ours, theirs = both + step @ expected, ours + step @ step, theirs + expected @ expected
    return both / max(theirs, 1e-12), both**2 / max(ours * theirs, 1e-12)


def _roughness(image: NDArray[np.float32], inside: NDArray[np.bool_], axis: int) -> float:
    """Mean difference of a voxel and the mean of its two neighbours along an axis, where all are inside."""
    parts = [
        tuple(slice(1 + n, None, STEP) if a == axis else slice(None, None, STEP) for a in range(3)) for n in (0, 1)
    ]
    before = tuple(slice(None, None, STEP) for _ in range(3))
    middle, after = image[parts[0]], image[parts[1]]
    size = after.shape[axis]
    cut = tuple(slice(size) if a == axis else slice(None) for a in range(3))
    first, middle = image[before][cut], middle[cut]
    valid = inside[before][cut] & inside[parts[0]][cut] & inside[parts[1]]
    if not valid.any():
        return 0.0
    return float(np.abs(middle - 0.5 * (first + after))[valid].mean())


def _agreement(each: Sequence[Labels], inside: NDArray[np.bool_], classes: int) -> float | None:
    """Mean Dice over all pairs of references and classes that are there."""
    maps = [labels * inside for labels in each]
    pairs = [_overlap(one, other, classes) for n, one in enumerate(maps) for other in maps[:n]]
    return float(np.mean(pairs)) if pairs else None
