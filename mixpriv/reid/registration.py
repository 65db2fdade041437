"""Registration without training: every scan of a gallery is fitted to what the server saw, smoothly warped if need be.

Blocks of what was seen are searched for around the same place of each gallery scan. The tables of correlation of
neighbouring blocks are pooled, because a warp moves neighbours together; the best shift of each then makes a smooth
displacement (a discrete registration as in Heinrich et al., IEEE TMI 2013, without its optimal tree). A moved,
turned, scaled or smoothly warped brain is found so; no network, no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from mixpriv.reid.features import Image, unit

BLOCK, REACH = 6, 4
"""Voxels of the working grid (4 to 5 mm): a block's side, and how far it is searched for along each axis."""

_POOL = 0.8
_REGION = BLOCK + 2 * REACH
_SHIFTS = 2 * REACH + 1
_LEAST_ENERGY = 0.1


@dataclass(frozen=True)
class Fit:
    """How well each gallery scan fits, (G,) each: blocks on their own, neighbours together, and warped as a whole.

    ``moves``: for each the displacement (3, D, H, W) in voxels that warps it to the query.
    """

    block: NDArray[np.float64]
    pooled: NDArray[np.float64]
    registered: NDArray[np.float64]
    moves: Sequence[NDArray[np.float32]] = field(repr=False)


@dataclass(frozen=True)
class Registration:
    """A gallery of fine structures (G, D, H, W), made ready once for any number of queries."""

    gallery: NDArray[np.float32] = field(repr=False)
    spectra: NDArray[np.complex64] = field(repr=False)
    norms: NDArray[np.float32] = field(repr=False)

    @staticmethod
    def of(details: Sequence[Image]) -> Registration:
        """Transform every block's surroundings."""
        gallery = np.stack(details).astype(np.float32)
        spectra, norms = zip(*(_surroundings(detail) for detail in gallery), strict=True)
        return Registration(gallery, np.stack(spectra), np.stack(norms))

    def fit(self, detail: Image) -> Fit:
        """Fit every gallery scan to a query's fine structure (D, H, W)."""
        lattice = _lattice(detail.shape)
        blocks = _blocks(detail)
        energy = np.sqrt((blocks**2).sum(axis=(1, 2, 3)))
        weight = np.where(energy > _LEAST_ENERGY * energy.max(), energy, 0.0).astype(np.float32)
        used = np.flatnonzero(weight)
        tables = self._correlations(blocks, used, energy)
        share = weight[used] / weight.sum()
        block = tables.max(axis=2) @ share
        pooled, shifts = _pool(tables, weight, used, lattice)
        moves = [displacement(shift, weight, detail.shape) for shift in shifts]
        registered = [_warped_correlation(detail, *pair) for pair in zip(self.gallery, moves, strict=True)]
        return Fit(block.astype(np.float64), (pooled @ share).astype(np.float64), np.array(registered), moves)

    def _correlations(
        self, blocks: NDArray[np.float32], used: NDArray[np.intp], energy: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Normalised correlation (G, used blocks, shifts) of each block with each place it may have come from."""
        padded = np.zeros((len(used), _REGION, _REGION, _REGION), np.float32)
        padded[:, :BLOCK, :BLOCK, :BLOCK] = blocks[used]
        query = fft.rfftn(padded, axes=(1, 2, 3)).conj()
        tables = np.empty((len(self.gallery), len(used), _SHIFTS**3), np.float32)
        for index, (spectrum, norm) in enumerate(zip(self.spectra, self.norms, strict=True)):
            full = fft.irfftn(spectrum[used] * query, s=(_REGION,) * 3, axes=(1, 2, 3))
            raw = full[:, :_SHIFTS, :_SHIFTS, :_SHIFTS].reshape(len(used), -1)
            tables[index] = raw / (norm[used] * energy[used, None])
        return tables


def _lattice(shape: Sequence[int]) -> tuple[int, int, int]:
    d, h, w = (-(-n // BLOCK) for n in shape)
    return d, h, w


def _blocks(detail: Image) -> NDArray[np.float32]:
    """The image cut into (blocks, BLOCK, BLOCK, BLOCK), filled up with zeros."""
    lattice = _lattice(detail.shape)
    full = np.zeros([n * BLOCK for n in lattice], np.float32)
    full[tuple(slice(0, n) for n in detail.shape)] = detail
    parts = full.reshape(lattice[0], BLOCK, lattice[1], BLOCK, lattice[2], BLOCK)
    return np.ascontiguousarray(parts.transpose(0, 2, 4, 1, 3, 5)).reshape(-1, BLOCK, BLOCK, BLOCK)


def _surroundings(detail: Image) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Spectrum of every block's search region, and the norm of each window in it."""
    lattice = _lattice(detail.shape)
    around = [(REACH, n * BLOCK - size + REACH) for n, size in zip(lattice, detail.shape, strict=True)]
    padded = np.pad(detail, around)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_REGION,) * 3)[::BLOCK, ::BLOCK, ::BLOCK]
    regions = np.ascontiguousarray(windows).reshape(-1, _REGION, _REGION, _REGION)
    square = np.asarray(padded, np.float64) ** 2
    for axis in range(3):
        total = np.cumsum(square, axis=axis)
        total = np.insert(total, 0, 0.0, axis=axis)
        size = total.shape[axis]
        square = np.take(total, range(BLOCK, size), axis) - np.take(total, range(size - BLOCK), axis)
    places = np.lib.stride_tricks.sliding_window_view(square, (_SHIFTS,) * 3)[::BLOCK, ::BLOCK, ::BLOCK]
    norms = np.sqrt(np.maximum(places, 0)).reshape(len(regions), -1).astype(np.float32)
    least = np.float32(_LEAST_ENERGY) * norms.max()  # else an almost empty window correlates well by accident
    return np.asarray(fft.rfftn(regions, axes=(1, 2, 3)), np.complex64), np.maximum(norms, least)


def _pool(
    tables: NDArray[np.float32], weight: NDArray[np.float32], used: NDArray[np.intp], lattice: tuple[int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Best correlation (G, used) of each block's neighbourhood, and its shift (G, blocks, 3) in voxels."""
    places = np.stack(np.unravel_index(used, lattice), 1).astype(np.float32)
    apart = ((places[:, None] - places[None]) ** 2).sum(2)
    mixing = np.exp(-apart / (2 * _POOL**2)) * weight[used]
    mixing /= mixing.sum(1, keepdims=True)
    best = np.empty(tables.shape[:2], np.float32)
    shifts = np.zeros((len(tables), len(weight), 3), np.float32)
    for index, table in enumerate(tables):
        pooled = mixing.astype(np.float32) @ table
        place = pooled.argmax(1)
        best[index] = pooled[np.arange(len(used)), place]
        shifts[index, used] = np.stack(np.unravel_index(place, (_SHIFTS,) * 3), 1) - REACH
    return best, shifts


def _smoothed(shifts: NDArray[np.float32], weight: NDArray[np.float32], lattice: tuple[int, int, int]) -> Image:
    """Displacement of each block (3, *lattice) in voxels, from the shifts (blocks, 3) of the blocks with weight."""
    weights = weight.reshape(lattice)
    share = ndimage.gaussian_filter(weights, _POOL) + np.float32(1e-6) * weights.max()
    known = [ndimage.gaussian_filter(weights * shifts[:, axis].reshape(lattice), _POOL) for axis in range(3)]
    return np.asarray(np.stack(known) / share, np.float32)


def _interpolation(size: int, blocks: int) -> NDArray[np.float32]:
    """Linear interpolation along an axis, as a matrix (size, blocks): from block centres to voxels."""
    place = np.clip((np.arange(size) - (BLOCK - 1) / 2) / BLOCK, 0, blocks - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(blocks))), np.float32)


def displacement(shifts: NDArray[np.float32], weight: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Smooth displacement (3, D, H, W) in voxels: the gallery scan at ``x + displacement`` fits the query at x."""
    lattice = _lattice(shape)
    coarse = _smoothed(shifts, weight, lattice)
    one, two, three = (_interpolation(size, blocks) for size, blocks in zip(shape, lattice, strict=True))
    return np.asarray(np.einsum("aijk,xi,yj,zk->axyz", coarse, one, two, three, optimize=True), np.float32)


def _warped_correlation(detail: Image, moving: Image, moves: NDArray[np.float32]) -> float:
    """Correlation of a query's fine structure with a gallery scan's, displaced; where the query has structure."""
    there = np.flatnonzero(np.abs(detail) > 0.05 * np.abs(detail).max())
    index = np.stack(np.unravel_index(there, detail.shape)).astype(np.float32)
    warped = ndimage.map_coordinates(moving, index + moves.reshape(3, -1)[:, there], order=1)
    return float(np.vdot(unit(warped), unit(detail.ravel()[there])))
