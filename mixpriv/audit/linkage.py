"""A1: whose scan is it? Linkage without training of what the server saw to a gallery of known people.

The attacker compares fine structure, the folds of a brain, by the best of several ways; some fit each gallery scan to
what was seen first, so that a warp or another pose hides nothing by itself. Source of the idea: re-identification by
brain anatomy, as in Kim et al., Mixup-Privacy, IPMI 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.audit.images import locally_normalised
from mixpriv.reid.features import coarsen, fine_structure, working_factor
from mixpriv.reid.registration import Registration

WAYS = {
    "correlation": "correlation of fine structure in place",
    "local": "the same, normalised locally",
    "blocks": "block matching",
    "neighbours": "block matching of neighbouring blocks together",
    "registered": "correlation after smooth registration",
}

Scores = Mapping[str, NDArray[np.float64]]
"""By way of comparing: (queries, gallery)."""

_ENOUGH_REQUESTS = 6


@dataclass(frozen=True)
class Linker:
    """A gallery, made ready for comparing; images (D, H, W) of the bundle's grid at ``spacing_mm``."""

    spacing_mm: float
    factor: int
    details: NDArray[np.float32] = field(repr=False)
    local: NDArray[np.float32] = field(repr=False)
    registration: Registration = field(repr=False)

    @staticmethod
    def of(images: Sequence[NDArray[np.floating[Any]]], spacing_mm: float) -> Linker:
        """Prepare a gallery."""
        factor = working_factor(images[0].shape, spacing_mm)
        working = [coarsen(image, factor) for image in images]
        details = [fine_structure(image, factor * spacing_mm) for image in working]
        local = [locally_normalised(image, factor * spacing_mm).ravel() for image in working]
        flat = np.stack([detail.ravel() for detail in details])
        return Linker(spacing_mm, factor, flat, np.stack(local), Registration.of(details))

    def score(self, image: NDArray[np.floating[Any]]) -> dict[str, NDArray[np.float64]]:
        """How well each gallery image fits what was seen (D, H, W), by every way: (gallery,)."""
        working, spacing = coarsen(image, self.factor), self.factor * self.spacing_mm
        detail = fine_structure(working, spacing)
        fit = self.registration.fit(detail)
        return {
            "correlation": (self.details @ detail.ravel()).astype(np.float64),
            "local": (self.local @ locally_normalised(working, spacing).ravel()).astype(np.float64),
            "blocks": fit.block,
            "neighbours": fit.pooled,
            "registered": fit.registered,
        }

    def score_all(self, images: Sequence[NDArray[np.floating[Any]]]) -> Scores:
        """Scores of several queries, (queries, gallery) each."""
        parts = [self.score(image) for image in images]
        return {way: np.stack([part[way] for part in parts]) for way in WAYS}


def centre(scores: NDArray[np.float64], requests: Sequence[str]) -> NDArray[np.float64]:
    """Less what each gallery scan scores with the other people's requests: some fit everybody. Needs a few requests."""
    names = np.array(requests)
    if len(set(requests)) < _ENOUGH_REQUESTS:
        return scores
    centred = np.empty_like(scores)
    for name in set(requests):
        centred[names == name] = scores[names == name] - scores[names != name].mean(axis=0)
    return centred


@dataclass(frozen=True)
class Ranks:
    """Of each query, (queries,): whether the right person came first, average precision, and area under the curve.

    ``above``: chance that a right scan scores above a wrong one (Mann-Whitney); 0.5 is guessing.
    """

    first: NDArray[np.float64]
    precision: NDArray[np.float64]
    above: NDArray[np.float64]


def rank(scores: NDArray[np.float64], queries: Sequence[str], gallery: Sequence[str]) -> Ranks:
    """Rank a gallery for each query; subjects by name, each in the gallery. Ties count as lost.

    Parameters
    ----------
    scores : (queries, gallery), higher is more similar

    Examples
    --------
    >>> scores = np.array([[0.9, 0.1], [0.6, 0.4]])  # of two requests with two scans
    >>> rank(scores, ["Ann", "Bob"], ["Ann", "Bob"]).first.tolist()
    [1.0, 0.0]
    """
    right = np.array(queries)[:, None] == np.array(gallery)[None]
    found = []
    for row, good in zip(scores, right, strict=True):
        wrong = np.sort(row[~good])
        first = float(row[good].max() > wrong.max(initial=-np.inf))
        behind = np.sort(np.array([(row >= value).sum() for value in row[good]]))
        precision = float((np.arange(1, len(behind) + 1) / behind).mean())
        below = np.searchsorted(wrong, row[good], "left") + np.searchsorted(wrong, row[good], "right")
        found.append((first, precision, float(below.mean() / (2 * max(len(wrong), 1)))))
    return Ranks(*np.array(found, np.float64).reshape(-1, 3).T)
