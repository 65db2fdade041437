"""The brain of a scan whose skull was taken away before: all that is not background, in any modality."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.imaging.alignment import MIN_BRAIN_ML
from mixpriv.imaging.preprocess.extraction import MAX_BRAIN_ML, Brain, one_component
from mixpriv.imaging.resample import field_of_view, to_grid
from mixpriv.imaging.volume import Image, Volume

MIN_BACKGROUND = 0.5
"""Of the voxels on the faces of a stripped scan so many at least have one value; the air around a head is noisy."""


def stripped_brain(scan: Volume, bundle: Bundle) -> Brain:
    """Find the largest component, holes filled, of what is not background.

    No network looks at it: whatever was not taken away and has a brain's volume passes as brain.

    Raises
    ------
    InputError
        the scan is not stripped, as far as can be told: no uniform background, or more left than a brain, or less.
    """
    inside = np.any([_foreground(modality) for modality in scan.modalities], axis=0)
    share = Image(np.asfortranarray(inside, dtype=np.float32), scan.affine)
    grid = field_of_view(share, bundle.spacing_mm, bundle.multiple)
    mask, probability = one_component(to_grid(share, grid), bundle.spacing_mm)
    brain = Brain(mask, probability, grid)
    if not MIN_BRAIN_ML <= brain.volume_ml <= MAX_BRAIN_ML:
        raise InputError(
            f"{scan.name}: expected a skull-stripped brain of {MIN_BRAIN_ML:.0f} to {MAX_BRAIN_ML:.0f} ml, got "
            f"{brain.volume_ml:.0f} ml that are not background"
        )
    return brain


def _foreground(modality: Volume) -> NDArray[np.bool_]:
    """Where an image has another value than most of the faces of its field of view; after a z-score that is not 0."""
    faces = [np.take(modality.voxels, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    background = int(counts.argmax())
    if counts[background] < MIN_BACKGROUND * counts.sum():
        raise InputError(f"{modality.name}: expected a skull-stripped scan, got one without a uniform background")
    return np.asarray(modality.voxels != values[background])
