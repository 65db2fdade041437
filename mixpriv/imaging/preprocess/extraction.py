"""Finding the brain: a small network on the client decides what may leave it, the face and the skull never do."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv import engine, kernels
from mixpriv.bundle import Bundle
from mixpriv.engine import Engine
from mixpriv.errors import InputError
from mixpriv.imaging.alignment import MIN_BRAIN_ML, mask_moments_mm
from mixpriv.imaging.device import CPU, Device
from mixpriv.imaging.preprocess.bias import find_bias
from mixpriv.imaging.resample import (
    Conformed,
    Grid,
    between_grids,
    block_means,
    box_around,
    brain_grid,
    field_of_view,
    sample,
)
from mixpriv.imaging.volume import Volume

MAX_BRAIN_ML = 2500.0
MAX_UNSURE = 0.3
"""Voxels of probability .1 to .9 as a share of the mask: about .14 in T1-weighted heads, .4 without a brain."""

_DOUBTFUL = 0.22
"""More than that of a head once its bias is gone: perhaps that was none, and the answer without it is surer."""

MIN_STRUCTURE = 0.5
"""Deviation of 4.5 mm block means by that of the voxels: .84 in a brain, .69 if it is very noisy, .38 in pure noise."""

_BLOCK = 3  # voxels of the bundle's grid
_BRIDGE_MM = 4.0  # half of what is no bridge any more
_TISSUE = 0.25  # of the robust range: above noise, below grey matter and fat
_SLICE_MM2 = 500.0  # of tissue in a slice that belongs to the head
_AIR_MM = 10.0  # left around it
_WINDOW_MM = (192.0, 224.0, 192.0)  # holds every brain, little more


@dataclass(frozen=True)
class Brain:
    """Where the brain is: mask (D, H, W) bool and its probability (D, H, W) float32 in the extraction grid."""

    mask: NDArray[np.bool_] = field(repr=False)
    probability: NDArray[np.float32] = field(repr=False)
    grid: Grid

    @property
    def volume_ml(self) -> float:
        """Volume of the mask, ml."""
        return int(np.count_nonzero(self.mask)) * self.grid.voxel_ml

    @property
    def unsure(self) -> float:
        """Voxels that are neither clearly brain nor clearly not, as a share of the mask."""
        unsure = np.count_nonzero((self.probability > 0.1) & (self.probability < 0.9))
        return unsure / max(int(np.count_nonzero(self.mask)), 1)


def load_extractor(bundle: Bundle) -> Engine:
    """Load the extractor on one thread: its sums, and so the bytes that are sent, must not depend on the threads."""
    return engine.load(bundle.extractor_path, threads=1)


def extract_brain(scan: Volume, extractor: Engine, bundle: Bundle) -> Brain:
    """Run the extractor over the head, then over a window of fixed size around the brain that it found there.

    The largest component, holes filled, is the brain. The second look makes the answer independent of how much air and
    neck the scan shows: the extractor normalises over all it sees. What the first look found also tells how uneven the
    brightness is, of which the second one is spared, unless it is surer without that.

    Parameters
    ----------
    scan : its air is 0, see `with_air_at_zero`

    Raises
    ------
    InputError
        no brain found: the component's volume is none that a brain has, or its border is unsure.
    """
    assert bundle.extractor_spacing_mm is not None  # noqa: S101 - the bundle is one for heads
    whole = field_of_view(scan, bundle.extractor_spacing_mm, bundle.multiple)
    means = block_means(scan, bundle.extractor_spacing_mm)
    head, place = _without_air(means.sampled(whole), whole, bundle.multiple)
    brain = _find(head, place, extractor)
    if brain.mask.any():
        window = _window_around(brain, bundle.extractor_spacing_mm, bundle.multiple)
        seen = means.sampled(window)
        bias = find_bias(head, brain.mask, place)
        brain = _find(seen if bias is None else seen * bias.gain(window), window, extractor)
        if bias is not None and brain.unsure > _DOUBTFUL:
            brain = min(brain, _find(seen, window, extractor), key=lambda found: found.unsure)
    if not MIN_BRAIN_ML <= brain.volume_ml <= MAX_BRAIN_ML:
        raise InputError(
            f"{scan.name}: no brain found: expected {MIN_BRAIN_ML:.0f} to {MAX_BRAIN_ML:.0f} ml of brain in a "
            f"T1-weighted head scan, got {brain.volume_ml:.0f} ml"
        )
    if brain.unsure > MAX_UNSURE:
        raise InputError(
            f"{scan.name}: no brain found: expected a T1-weighted head scan, got one in which what might be a "
            f"brain has an unsure border ({100 * brain.unsure:.0f} % of its volume, at most {100 * MAX_UNSURE:.0f} %)"
        )
    return brain


def conform(scan: Volume, brain: Brain, bundle: Bundle, device: Device = CPU) -> Conformed:
    """Scan and brain mask in the bundle's grid, centred and sized like every other brain, evenly bright.

    Parameters
    ----------
    scan : its air is 0, see `with_air_at_zero`

    Raises
    ------
    InputError
        in a modality the brain has no contrast at all, or no tissues that differ.
    """
    grid = brain_grid(brain.mask, brain.grid, bundle)
    mask = (between_grids(brain.probability, brain.grid, grid) >= 0.5).astype(np.uint8)
    target = sample(scan, grid, mask, grid, device, _evened)
    for modality, image, (low, high) in zip(scan.modalities, target.images, target.intensity_ranges, strict=True):
        refusal = f"{modality.name}: no brain found: expected"
        if not low < high:
            raise InputError(f"{refusal} tissue contrast inside the brain, got none")
        if _structure(image, mask, (low, high)) < MIN_STRUCTURE:
            raise InputError(f"{refusal} tissues that differ, got noise alone inside the brain")
    return target.with_unsure(brain.unsure)


def _evened(image: NDArray[np.float32], mask: NDArray[np.uint8], grid: Grid) -> NDArray[np.float32]:
    """An image without its bias; the same array if that is weak."""
    bias = find_bias(image, mask, grid)
    return image if bias is None else image * bias.gain(grid)


def _structure(image: NDArray[np.float32], mask: NDArray[np.uint8], limits: tuple[float, float]) -> float:
    """How much of the variation inside a mask is coarser than single voxels, 0 to 1; 1 if no whole block is inside."""
    low, high = limits
    blocks = (_BLOCK, _BLOCK, _BLOCK)
    inside = kernels.block_mean(mask.astype(np.float32), blocks) > 1 - 0.5 / _BLOCK**3
    if not inside.any():
        return 1.0
    voxels = np.clip((image - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    means = kernels.block_mean(voxels, blocks)[inside].astype(np.float64)
    squares = kernels.block_mean(np.square(voxels), blocks)[inside].astype(np.float64)
    deviation = np.sqrt(max(squares.mean() - means.mean() ** 2, 0.0))
    return float(means.std() / max(deviation, 1e-30))


def _find(image: NDArray[np.float32], grid: Grid, extractor: Engine) -> Brain:
    answer = extractor(image=_normalise(image)[None, None]).get("brain_probability")
    if answer is None or answer.shape != (1, 1, *image.shape):
        got = "another output" if answer is None else f"{answer.shape}"
        raise InputError(f"extractor: expected brain_probability of {(1, 1, *image.shape)}, got {got}")
    mask, probability = one_component(np.asarray(answer[0, 0], dtype=np.float32), float(grid.spacing_mm[0]))
    return Brain(mask, probability, grid)


def _window_around(brain: Brain, spacing_mm: float, multiple: int) -> Grid:
    centre_mm, _ = mask_moments_mm(brain.mask, brain.grid.affine)
    shape = np.ceil(np.array(_WINDOW_MM) / (spacing_mm * multiple)).astype(int) * multiple
    affine = np.diag((spacing_mm, spacing_mm, spacing_mm, 1.0))
    affine[:3, 3] = centre_mm - spacing_mm * (shape - 1) / 2
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _without_air(image: NDArray[np.float32], grid: Grid, multiple: int) -> tuple[NDArray[np.float32], Grid]:
    """Cut an image down to what is not air, with a margin, each size still a multiple."""
    low, high = kernels.robust_range(image, None)
    bright = image > low + _TISSUE * (high - low)
    column = np.count_nonzero(bright, axis=0)
    counts = [np.count_nonzero(bright, axis=(1, 2)), column.sum(axis=1), column.sum(axis=0)]
    corner, shape = [], []
    for axis, size in enumerate(image.shape):
        area_mm2 = counts[axis] * float(np.prod(np.delete(grid.spacing_mm, axis)))
        occupied = np.flatnonzero(area_mm2 > _SLICE_MM2)
        margin = round(_AIR_MM / grid.spacing_mm[axis])
        first, last = (occupied[0] - margin, occupied[-1] + margin) if len(occupied) else (0, size - 1)
        length = min(size, -(-(last - first + 1) // multiple) * multiple)
        corner.append(int(np.clip((first + last + 1 - length) // 2, 0, size - length)))
        shape.append(int(length))
    box = tuple(slice(start, start + length) for start, length in zip(corner, shape, strict=True))
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ corner
    return np.ascontiguousarray(image[box]), Grid((shape[0], shape[1], shape[2]), affine)


def _normalise(image: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = kernels.robust_range(image, None)
    scale = np.float32(1.0 / max(high - low, 1e-30))
    return np.clip((image - np.float32(low)) * scale, 0.0, 1.0)


def one_component(probability: NDArray[np.float32], spacing_mm: float) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Mask of the largest component above one half, holes filled, and the probability that belongs to it.

    What hangs on it by a thin bridge (muscle, an eye) does not belong: the component is looked for in the eroded mask.
    """
    everywhere = probability >= 0.5
    box = box_around(everywhere)
    above = everywhere[box]
    depth = max(1, round(_BRIDGE_MM / spacing_mm))
    components, count = ndimage.label(_eroded(above, depth))
    if count == 0:
        return np.zeros_like(everywhere), np.zeros_like(probability)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    core = components == int(sizes.argmax())
    largest = ~_eroded(~core, depth + 1) & above
    mask = np.zeros_like(everywhere)
    mask[box] = _without_holes(largest)
    cleaned = probability.copy()
    cleaned[box][above & ~largest] = 0.0
    cleaned[box][mask[box] & ~largest] = 1.0
    return mask, cleaned


def _eroded(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """What is left of a mask when what touches its outside by a face is taken away, ``steps`` times over.

    Beyond the image the mask goes on. As ``scipy.ndimage.binary_erosion``, but whole arrays at a time.
    """
    for _ in range(steps):
        inner = mask.copy()
        for axis in range(mask.ndim):
            ahead, behind = ((slice(None),) * axis + (part,) for part in (slice(1, None), slice(None, -1)))
            inner[ahead] &= mask[behind]
            inner[behind] &= mask[ahead]
        mask = inner
    return mask


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and all that it encloses: every voxel from which no way outside of it leads to the image's border."""
    components, count = ndimage.label(~mask)
    open_ = np.zeros(count + 1, dtype=bool)
    for axis in range(mask.ndim):
        for end in (0, -1):
            open_[np.take(components, end, axis)] = True
    open_[0] = False  # the mask itself
    return np.asarray(~open_[components])
