"""How well a mixture could be linked to its own scan: measured before it leaves, and drawn again if need be.

The scan is smoothly registered to the mixture, as somebody would who looks for it in what a server sees. Their
similarity is set against that of mixtures to other people's scans (impostors), which the bundle knows. Other attacks
may see more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Impostors
from mixpriv.float16 import single
from mixpriv.reid.features import coarsen, fine_structure, working_factor
from mixpriv.reid.registration import Registration

MOST_DRAWS = 8
"""Mixtures drawn for one scan in mode shielded before it is refused."""


@dataclass(frozen=True)
class SimilarityCheck:
    """A scan as somebody knows it who looks for it in what a server sees."""

    spacing_mm: float
    registrations: Sequence[Registration] = field(repr=False)

    @staticmethod
    def of(scan: NDArray[np.floating[Any]], spacing_mm: float) -> SimilarityCheck:
        """Get ready to look for a normalised scan (M, D, H, W) of a grid."""
        return SimilarityCheck(spacing_mm, [Registration.of([detail]) for detail in _details(scan, spacing_mm)])

    def similarity(self, mixture: NDArray[np.floating[Any]]) -> float:
        """Correlation of fine structure with what was sent (M, D, H, W), registered: that of the most similar modality.

        Infinite where there is nothing to compare: it must not pass.
        """
        found = [
            float(registration.fit(detail).registered[0]) if detail.any() else np.inf
            for registration, detail in zip(self.registrations, _details(mixture, self.spacing_mm), strict=True)
        ]
        return max(found) if np.isfinite(found).all() else np.inf

    def risk(self, mixture: NDArray[np.floating[Any]], impostors: Impostors) -> float:
        """Standard deviations by which the similarity is above that of impostors' scans."""
        return (self.similarity(mixture) - impostors.mean) / impostors.std


def _details(images: NDArray[np.floating[Any]], spacing_mm: float) -> list[NDArray[np.float32]]:
    """Fine structure of each modality of (M, D, H, W)."""
    factor = working_factor(images.shape[1:], spacing_mm)
    exact = single(images) if images.dtype == np.float16 else images
    return [fine_structure(coarsen(image, factor), factor * spacing_mm) for image in exact]
