"""Finding the brain: a small network on the client decides what may leave it, the face and the skull never do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv import kernels
from mixpriv.bundle import Bundle
from mixpriv.client.alignment import MIN_BRAIN_ML
from mixpriv.client.conform import Conformed, Grid, between_grids, brain_grid, field_of_view, to_grid
from mixpriv.client.volume import Volume
from mixpriv.engine import Engine
from mixpriv.errors import InputError

MAX_BRAIN_ML = 2500.0


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


def extract_brain(scan: Volume, extractor: Engine, bundle: Bundle) -> Brain:
    """Run the extractor over the whole field of view; its largest component, holes filled, is the brain.

    Raises
    ------
    InputError
        no brain found: the component's volume is none that a brain has.
    """
    grid = field_of_view(scan, bundle.extractor_spacing_mm, bundle.multiple)
    image = _normalise(to_grid(_without_negatives(scan), grid))
    answer = extractor(image=image[None, None])["brain_probability"][0, 0]
    mask, probability = _one_component(np.asarray(answer, dtype=np.float32))
    brain = Brain(mask, probability, grid)
    if not MIN_BRAIN_ML <= brain.volume_ml <= MAX_BRAIN_ML:
        raise InputError(
            f"{scan.name}: no brain found: expected {MIN_BRAIN_ML:.0f} to {MAX_BRAIN_ML:.0f} ml of brain in a "
            f"T1-weighted head scan, got {brain.volume_ml:.0f} ml"
        )
    return brain


def conform(scan: Volume, brain: Brain, bundle: Bundle) -> Conformed:
    """Scan and brain mask in the bundle's grid, centred and sized like every other brain.

    Raises
    ------
    InputError
        the brain has no contrast at all.
    """
    grid = brain_grid(brain.mask, brain.grid, bundle)
    image = to_grid(scan, grid)
    mask = (between_grids(brain.probability, brain.grid, grid) >= 0.5).astype(np.uint8)
    low, high = kernels.robust_range(image, mask)
    if not low < high:
        raise InputError(f"{scan.name}: no brain found: expected tissue contrast inside the brain, got none")
    return Conformed(image, mask, (low, high), grid)


def _without_negatives(scan: Volume) -> Volume:
    """Shift a scan that has negative values: outside its field of view 0 is to be the darkest value."""
    lowest = scan.voxels.min()
    return scan if lowest >= 0 else replace(scan, voxels=scan.voxels - lowest)


def _normalise(image: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = kernels.robust_range(image, None)
    scale = np.float32(1.0 / max(high - low, 1e-30))
    return np.clip((image - np.float32(low)) * scale, 0.0, 1.0)


def _one_component(probability: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Mask of the largest component above one half, holes filled, and the probability that belongs to it."""
    above = probability >= 0.5
    components, count = ndimage.label(above)
    if count == 0:
        return above, probability
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    largest = components == int(sizes.argmax())
    mask = ndimage.binary_fill_holes(largest)
    cleaned = probability.copy()
    cleaned[above & ~largest] = 0.0
    cleaned[mask & ~largest] = 1.0
    return mask, cleaned
