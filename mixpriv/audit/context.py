"""What every attack works on: the requests of people in one mode, the gallery, and the attacker's own practice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.audit.cohort import Cohort, Visit
from mixpriv.audit.findings import Finding, finding
from mixpriv.audit.images import ms_ssim, psnr, ssim
from mixpriv.audit.linkage import WAYS, Linker, centre, rank
from mixpriv.audit.simulation import Environment, Sent, attacker_key, client_key, send
from mixpriv.key import ClientKey
from mixpriv.protection.modes import Protection
from mixpriv.reid.features import Image


@dataclass(frozen=True)
class Budget:
    """How hard the attacks try: the small scale of a continuous integration, or more.

    ``keys``: client keys under which every query is sent. ``queries``: the first ones, on which costly attacks are
    tried, under ``costly_keys``.
    """

    keys: int = 1
    queries: int = 8
    costly_keys: int = 1
    bank: int = 12
    requests: tuple[int, ...] = (2, 5)
    steps: int = 120
    seed: int = 0


@dataclass(frozen=True)
class Context:
    """One mode under attack, by the ``name`` it has in the report. ``linker`` is of the gallery's images."""

    environment: Environment
    cohort: Cohort
    name: str
    mode: Protection
    linker: Linker = field(repr=False)
    template: Image = field(repr=False)
    budget: Budget

    @cached_property
    def sent(self) -> list[Sent]:
        """One request of every query under every client key."""
        return [
            send(self.mode, visit, self.environment, client_key(number))
            for number in range(self.budget.keys)
            for visit in self.cohort.queries
        ]

    @cached_property
    def tried(self) -> list[tuple[ClientKey, Visit]]:
        """What costly attacks are tried on: the first queries, each under as many client keys as the budget says."""
        return [(client_key(number), visit) for number in range(self.budget.costly_keys) for visit in self.few]

    @cached_property
    def costly(self) -> list[Sent]:
        """One request of each of `tried`."""
        return [send(self.mode, visit, self.environment, key) for key, visit in self.tried]

    @cached_property
    def answered(self) -> list[Sent]:
        """The same with their answers."""
        return [send(self.mode, visit, self.environment, key, answer=True) for key, visit in self.tried]

    @cached_property
    def _own(self) -> list[Sent]:
        """A few requests of the attacker's: from their secrets he knows how the mode works."""
        return self.practice(self.cohort.known[:4], 1)

    @property
    def mixes(self) -> bool:
        """Whether the mode mixes scans with references."""
        return any(one.secret.reference is not None for one in self._own)

    @property
    def warps(self) -> bool:
        """Whether it warps them."""
        return any(one.secret.warp is not None for one in self._own)

    @property
    def draws_weights(self) -> bool:
        """Whether the weight is another in every mixture."""
        return len({one.secret.weight for one in self._own}) > 1

    @property
    def mean_weight(self) -> float:
        """The scan's weight on average: all that an attacker knows of a victim's."""
        return float(np.mean([one.secret.weight for one in self._own]))

    @property
    def few(self) -> tuple[Visit, ...]:
        """The queries that costly attacks are tried on."""
        return self.cohort.queries[: self.budget.queries]

    @cached_property
    def _baselines(self) -> dict[str, tuple[float, float, float]]:
        return {visit.name: self._similarity(self.template, visit) for visit in self.few}

    def _similarity(self, image: Image, visit: Visit) -> tuple[float, float, float]:
        """SSIM, MS-SSIM and PSNR of an image to a scan, in the scan's mask."""
        truth, mask, spacing = visit.image, visit.conformed.mask > 0, self.environment.spacing_mm
        return ssim(image, truth, mask, spacing), ms_ssim(image, truth, mask, spacing), psnr(image, truth, mask)

    def practice(self, visits: Sequence[Visit], draws: int, *, answer: bool = False) -> list[Sent]:
        """Requests that the attacker makes of scans of his own, under keys of his own: he knows their secrets."""
        return [
            send(self.mode, visit, self.environment, attacker_key(number), answer=answer)
            for number in range(draws)
            for visit in visits
        ]

    def linked(
        self,
        attack: str,
        images: Sequence[NDArray[np.floating[Any]]],
        subjects: Sequence[str],
        suffix: str = "",
        linker: Linker | None = None,
    ) -> list[Finding]:
        """A1 on any images (D, H, W), one for each of the subjects: by the best way; for A1 itself, by all."""
        held = [visit.subject for visit in self.cohort.gallery]
        return linked(attack, self.name, linker or self.linker, held, images, subjects, suffix=suffix)

    def recovered(self, attack: str, suffix: str, images: Sequence[Image], visits: Sequence[Visit]) -> list[Finding]:
        """How near recovered images come to the scans, over how near the template of other people comes."""
        subjects = [visit.subject for visit in visits]
        figures: dict[str, list[float]] = {"SSIM": [], "MS-SSIM": [], "PSNR": []}
        for image, visit in zip(images, visits, strict=True):
            ours, theirs = self._similarity(image, visit), self._baselines[visit.name]
            for own, one, other in zip(figures.values(), ours, theirs, strict=True):
                own.append(one - other)
        return [
            finding(attack, self.name, f"{name} over template{suffix}", values, subjects, 0.0, against="template")
            for name, values in figures.items()
        ]


def template_of(cohort: Cohort) -> Image:
    """The mean of the attacker's own people: what everybody's brain looks like."""
    return np.asarray(np.mean([visit.image for visit in cohort.known], axis=0), np.float32)


def linked(
    attack: str,
    mode: str,
    linker: Linker,
    held: Sequence[str],
    images: Sequence[NDArray[np.floating[Any]]],
    subjects: Sequence[str],
    *,
    suffix: str = "",
) -> list[Finding]:
    """A1 on images of the subjects, against a gallery of scans held of these and others (names, in its order)."""
    scores = linker.score_all(images)
    chance = float(np.mean([held.count(subject) / len(held) for subject in subjects]))
    found: dict[str, list[Finding]] = {}
    for way in WAYS:
        ranks = rank(centre(scores[way], subjects), subjects, held)
        figures = (("rank-1", ranks.first, chance), ("mAP", ranks.precision, guessed_precision(held)),
                   ("AUC", ranks.above, 0.5))  # fmt: skip
        found[way] = [finding(attack, mode, f"{n}, {way}{suffix}", values, subjects, b) for n, values, b in figures]
    best = max(found, key=lambda way: (found[way][0].value, found[way][1].value))
    named = [replace(one, figure=one.figure.replace(f", {best}", ", best way", 1)) for one in found[best]]
    return named + ([one for own in found.values() for one in own] if attack == "A1" else [])


def guessed_precision(held: Sequence[str]) -> float:
    """Mean average precision of guessing, about: the mean of 1/rank over the gallery's people."""
    return float(np.mean(1 / np.arange(1, len(set(held)) + 1)))
