"""How well an average brain explains what was taken for a brain, which way round that is, and which tissue is brighter.

The brightness of each tissue is fitted anew, so any contrast will do. The average brain is that of the reference model.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv import kernels
from mixpriv.bundle import Bundle
from mixpriv.imaging.resample import Conformed
from mixpriv.protection.fields import resample_evenly
from mixpriv.protection.reference import ReferenceModel

_COARSE_MM, _FINE_MM = 6.0, 3.0
_PITCHES_DEG = (0.0, -8.0, 8.0, -16.0)
"""Nodding: how a head lies in a scanner differs most in that."""

_RIVALS = 3  # other orientations that are looked at with every pitch
_SOME, _WHOLE = 0.1, 0.99  # of a voxel
_OUTER_CSF, _CORTEX, _WHITE = 0, 1, 2  # places in the folding order of a reference model
_FLUID, _DEEP, _STEM = 0.5, 0.68, 0.89
"""What does not fold is told apart by its brightness in T1: below these are ventricles, allocortex, nuclei."""

_SURELY_WHITE, _SURELY_GREY = 0.7, 0.4  # of the average brain; folds differ from person to person
_RIM = 2  # fine voxels below the surface, where CSF darkens the grey matter
_BINS = 256

Turn = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Axis of the image that each axis of the average brain runs along, and in which direction."""

UPRIGHT: Turn = ((0, 1, 2), (1, 1, 1))
_MIRRORED: Turn = ((0, 1, 2), (-1, 1, 1))


def _turns() -> list[Turn]:
    """The 24 rotations; a mirrored brain looks like itself."""
    found: list[Turn] = []
    for i, j, k in itertools.permutations(range(3)):
        even = (i, j, k) in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
        for a, b, c in itertools.product((1, -1), repeat=3):
            if (a * b * c > 0) == even:
                found.append(((i, j, k), (a, b, c)))
    return found


TURNS = _turns()


@dataclass(frozen=True)
class Match:
    """How an average brain fits an image.

    Attributes
    ----------
    explained : share of the image's variation that it explains as the header has it, at most 1
    upright : by how much more than in the best of the 23 other orientations
    white_brighter : of pairs of a voxel of white and one of grey matter the share in which the white one is brighter
    grey_to_white : median brightness of grey matter by that of white matter
    symmetry : Dice coefficient of the mask and its mirror image
    """

    explained: float
    upright: float
    white_brighter: float
    grey_to_white: float
    symmetry: float


@dataclass(frozen=True)
class _Seen:
    """A scan in larger voxels: image (0 outside the mask) and mask, and the mask's extent in voxels of the bundle."""

    image: NDArray[np.float32]
    mask: NDArray[np.float32]
    std: NDArray[np.float64]


@dataclass(frozen=True)
class _Level:
    """Shares of tissues (T, D, H, W) float32 in voxels of ``block`` of the bundle's; its brain's centre and extent."""

    tissues: NDArray[np.float32]
    block: int
    centre: NDArray[np.float64]
    std: NDArray[np.float64]

    @staticmethod
    def of(bundle: Bundle, model: ReferenceModel, spacing_mm: float, groups: Sequence[NDArray[np.bool_]]) -> _Level:
        assert bundle.alignment is not None  # noqa: S101 - the bundle is one for heads
        block = max(1, round(spacing_mm / bundle.spacing_mm))
        d, h, w = (n // block for n in bundle.grid_shape)
        shares = [model.atlas[group].sum(axis=0, dtype=np.float32) / 255 for group in groups]
        # linear interpolation reads two voxels along each axis: of a fine atlas their means, so that all are read
        halves = max(1, int(block / model.step / 1.5))
        step = block / model.step / halves
        means = [kernels.block_mean(share, (halves,) * 3) for share in shares]
        tissues = [resample_evenly(mean, step, step / 2 - 0.5, (d, h, w)) for mean in means]
        centre = (np.array(bundle.alignment.centre_voxel) + 0.5) / block - 0.5
        return _Level(np.stack(tissues), block, centre, np.array(bundle.alignment.std_mm) / bundle.spacing_mm)

    def see(self, scaled: NDArray[np.float32], mask: NDArray[np.float32]) -> _Seen:
        """Image and mask, both (D, H, W) of the bundle's grid, in larger voxels."""
        blocks = (self.block,) * 3
        box = tuple(slice(n * self.block) for n in self.tissues.shape[1:])
        image, inside = (kernels.block_mean(np.ascontiguousarray(part[box]), blocks) for part in (scaled, mask))
        counts = [inside.sum(axis=axes, dtype=np.float64) for axes in ((1, 2), (0, 2), (0, 1))]
        index = [np.arange(n, dtype=np.float64) for n in inside.shape]
        middle = [np.average(i, weights=c) for i, c in zip(index, counts, strict=True)]
        std = [np.average((i - m) ** 2, weights=c) for i, m, c in zip(index, middle, counts, strict=True)]
        return _Seen(image, inside, np.sqrt(np.array(std)) * self.block)

    def turned(self, image: NDArray[np.float32], seen: _Seen, turn: Turn, pitch_deg: float) -> NDArray[np.float32]:
        """An image as it would be under another header, its head nodded, stretched to the average brain."""
        axes, signs = turn
        sine, cosine = np.sin(np.deg2rad(pitch_deg)), np.cos(np.deg2rad(pitch_deg))
        linear = np.zeros((3, 3))
        for axis, (own, sign) in enumerate(zip(axes, signs, strict=True)):
            linear[own, axis] = sign * seen.std[own] / self.std[axis]
        linear = linear @ np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        d, h, w = self.tissues.shape[1:]
        matrix = np.column_stack([linear, self.centre - linear @ self.centre])
        return kernels.resample(image, np.ascontiguousarray(matrix), (d, h, w))


@dataclass(frozen=True)
class Atlas:
    """The average brain, for the orientation in large voxels and for the contrast in smaller ones."""

    coarse: _Level = field(repr=False)
    fine: _Level = field(repr=False)

    @staticmethod
    def of(bundle: Bundle) -> Atlas:
        """That of a bundle for heads."""
        model = ReferenceModel.of(bundle)
        rank, brightness = model.fold_rank, model.intensity_range[: len(model.atlas)].mean(axis=1)
        solid = (rank < 0) & (np.arange(len(rank)) > 0)  # the first is the background
        white = (rank == _WHITE) | (solid & (brightness >= _STEM))
        grey = (rank == _CORTEX) | (solid & (brightness >= _FLUID) & (brightness < _DEEP))
        nuclei = solid & (brightness >= _DEEP) & (brightness < _STEM)
        tissues = (white, grey | nuclei, solid & (brightness < _FLUID), rank == _OUTER_CSF)
        coarse, fine = ((_COARSE_MM, tissues), (_FINE_MM, (white, grey)))
        return Atlas(_Level.of(bundle, model, *coarse), _Level.of(bundle, model, *fine))

    def match(self, scan: Conformed) -> Match:
        """Fit the average brain to a scan's first modality, upright and in every other orientation."""
        low, high = scan.intensity_ranges[0]
        mask = scan.mask.astype(np.float32)
        scaled = np.clip((scan.image - np.float32(low)) * np.float32(1 / (high - low)), 0, 1) * mask
        seen = self.coarse.see(scaled, mask)
        fits = _Fits(self.coarse, seen)
        explained, pitch = max((fits.explained(UPRIGHT, pitch), pitch) for pitch in _PITCHES_DEG)
        there = [self.coarse.turned(seen.mask, seen, turn, 0.0) for turn in (UPRIGHT, _MIRRORED)]
        white, grey = _levels(self.fine, self.fine.see(scaled, mask), pitch)
        return Match(
            explained=explained,
            upright=explained - fits.best_other(),
            white_brighter=_brighter(white, grey),
            grey_to_white=_median(grey) / max(_median(white), 1 / _BINS),
            symmetry=float(2 * np.minimum(*there).sum() / max(there[0].sum() + there[1].sum(), 1.0)),
        )


class _Fits:
    """Least squares of the average brain's tissues against an image that is turned."""

    def __init__(self, level: _Level, seen: _Seen) -> None:
        self._level, self._seen = level, seen
        self._inside = level.tissues.sum(axis=0) > _SOME
        self._tissues = level.tissues[:, self._inside].astype(np.float64)
        self._normal = np.linalg.pinv(self._tissues @ self._tissues.T)

    def explained(self, turn: Turn, pitch_deg: float) -> float:
        """Share of the variation in image and average brain that is explained, at most 1."""
        image = self._level.turned(self._seen.image, self._seen, turn, pitch_deg)
        mask = self._level.turned(self._seen.mask, self._seen, turn, pitch_deg)
        count = np.count_nonzero(self._inside | (mask > _SOME))
        product = self._tissues @ image[self._inside]
        squares = float(np.square(image, dtype=np.float64).sum())
        total = squares - float(image.sum(dtype=np.float64)) ** 2 / count
        return 1 - (squares - float(product @ self._normal @ product)) / max(total, 1e-30)

    def best_other(self) -> float:
        """The most that is explained in another orientation than upright."""
        found = {turn: self.explained(turn, 0.0) for turn in TURNS if turn != UPRIGHT}
        rivals = sorted(found, key=lambda turn: -found[turn])[:_RIVALS]
        return max(self.explained(turn, pitch) for turn in rivals for pitch in _PITCHES_DEG)


def _levels(level: _Level, seen: _Seen, pitch_deg: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Histograms of what is surely white matter and surely grey matter, away from the brain's surface."""
    image = level.turned(seen.image, seen, UPRIGHT, pitch_deg)
    mask = level.turned(seen.mask, seen, UPRIGHT, pitch_deg)
    core = ndimage.binary_erosion(mask > _WHOLE, iterations=_RIM)
    bins = np.minimum((image[core] * _BINS).astype(np.intp), _BINS - 1)
    found = []
    for share, least in zip(level.tissues, (_SURELY_WHITE, _SURELY_GREY), strict=True):
        weight = share[core]
        found.append(np.bincount(bins, np.where(weight > least, weight, 0), _BINS).astype(np.float64))
    return found[0], found[1]


def _brighter(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Of pairs of values out of two histograms the share in which the first is larger; half of those that are equal."""
    below = np.cumsum(second) - second / 2
    return float(first @ below / max(first.sum() * second.sum(), 1e-30))


def _median(histogram: NDArray[np.float64]) -> float:
    return float(np.searchsorted(np.cumsum(histogram), histogram.sum() / 2) + 0.5) / _BINS
