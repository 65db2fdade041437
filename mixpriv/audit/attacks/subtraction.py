"""Taking a guessed reference out of a mixture: what A3 and A5 share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.audit.images import displaced
from mixpriv.reid.features import BAND_MM, Image, coarsen, fine_structure, working_factor
from mixpriv.reid.registration import Registration

_MOST = 0.95


def registered_to(images: Sequence[Image], seen: Image, spacing_mm: float) -> list[Image]:
    """Images (D, H, W), each smoothly registered to what was seen (D, H, W)."""
    factor = working_factor(seen.shape, spacing_mm)
    working = [fine_structure(coarsen(image, factor), factor * spacing_mm) for image in images]
    fit = Registration.of(working).fit(fine_structure(coarsen(seen, factor), factor * spacing_mm))
    warped = []
    for image, moves in zip(images, fit.moves, strict=True):
        warped.append(displaced(image[None], _refined(moves, factor, image.shape))[0])
    return warped


def _refined(moves: NDArray[np.float32], factor: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A displacement of the coarse grid in the voxels of the fine one."""
    scale, offset = np.full(3, 1 / factor), np.full(3, 0.5 / factor - 0.5)
    axes = [ndimage.affine_transform(axis, scale, offset, shape, order=1, mode="nearest") for axis in moves]
    return np.asarray(np.stack(axes) * factor, np.float32)


def reference_share(seen: Image, reference: Image, spacing_mm: float) -> float:
    """The reference's share in a mixture, from its fine structure alone, which the target's is not like."""

    def detail(image: Image) -> Image:
        low, high = (ndimage.gaussian_filter(image, mm / spacing_mm) for mm in BAND_MM)
        return np.asarray(low - high, np.float32)

    one, other = detail(seen), detail(reference)
    share = float(np.vdot(one, other)) / max(float(np.vdot(other, other)), 1e-12)
    return min(max(share, 0.0), _MOST)


def without(seen: Image, reference: Image, spacing_mm: float) -> Image:
    """The mixture with the reference subtracted and the rest brought back to full scale."""
    share = reference_share(seen, reference, spacing_mm)
    return np.asarray(np.clip((seen - share * reference) / (1 - share), 0, 1), np.float32)
