"""How well a mixture could be linked to its own scan: measured before it leaves, and drawn again if need be.

The strongest attack without training, smooth registration, is made on the mixture. What it finds is set against what
it finds between the mixtures of other people's scans and this kind of scan, which the bundle knows the spread of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Strangers
from mixpriv.client.matching import Matcher
from mixpriv.client.structure import coarsen, fine_structure, working_factor

MOST_DRAWS = 8
"""Mixtures drawn for one scan in mode shielded before it is refused."""


@dataclass(frozen=True)
class Recognition:
    """A scan as somebody knows it who looks for it in what a server sees."""

    spacing_mm: float
    matcher: Matcher = field(repr=False)

    @staticmethod
    def of(scan: NDArray[np.floating[Any]], spacing_mm: float) -> Recognition:
        """Get ready to look for a normalised scan (D, H, W) of a grid."""
        return Recognition(spacing_mm, Matcher.of([_detail(scan, spacing_mm)]))

    def likeness(self, mixture: NDArray[np.floating[Any]]) -> float:
        """Correlation of fine structure with what was sent (D, H, W), the scan smoothly registered to it."""
        return float(self.matcher.fit(_detail(mixture, self.spacing_mm)).registered[0])

    def risk(self, mixture: NDArray[np.floating[Any]], strangers: Strangers) -> float:
        """Standard deviations by which the likeness is above that of strangers' scans."""
        return (self.likeness(mixture) - strangers.mean) / strangers.std


def _detail(image: NDArray[np.floating[Any]], spacing_mm: float) -> NDArray[np.float32]:
    factor = working_factor(spacing_mm)
    return fine_structure(coarsen(image, factor), factor * spacing_mm)
