"""A first look at what a curious server learns: training-free linkage of mixtures to scans of known people.

The attacker holds a gallery of conformed scans, one a person, and compares fine structure: the correlation of high-pass
filtered images. Source of the idea: re-identification by brain folding, as in Kim et al., Mixup-Privacy, IPMI 2023.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.bundle import Bundle
from mixpriv.client.conform import Conformed
from mixpriv.client.key import ClientKey, content_digest
from mixpriv.client.proxy import draw_weight, mix
from mixpriv.client.random import Stream
from mixpriv.client.reference import ReferenceModel, draw_reference
from mixpriv.client.stages import Stages
from mixpriv.client.target import Conformer
from mixpriv.client.volume import load_volume

HIGH_PASS_VOXELS = 1.5


@dataclass(frozen=True)
class Person:
    """A visit: who, and what the client's conforming makes of it."""

    subject: str
    content: bytes
    target: Conformed


@dataclass(frozen=True)
class Linkage:
    """Outcome of one setting: share of trials in which the right person came first, of how many, against chance."""

    setting: str
    rank_1: float
    trials: int
    chance: float
    own_correlation: float


def fine_structure(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """High-pass of (D, H, W), zero mean and unit norm: the inner product of two is their correlation."""
    array = np.asarray(image, np.float32)
    detail = array - ndimage.gaussian_filter(array, HIGH_PASS_VOXELS)
    detail -= detail.mean()
    return np.asarray(detail / max(float(np.linalg.norm(detail)), 1e-12), np.float32)


def read_person(path: Path, conformer: Conformer) -> Person:
    """Load and conform one visit; the subject is what the file's name begins with."""
    scan = load_volume(path)
    return Person(path.name.split("_")[0], content_digest(scan.voxels, scan.affine), conformer(scan, Stages()))


class Attack:
    """All people with their fine structure, and mixtures made by clients with fresh keys."""

    def __init__(self, people: Sequence[Person], bundle: Bundle) -> None:
        self.people, self.bundle = people, bundle
        self.model = ReferenceModel.load(bundle.reference_path)
        self.details = [fine_structure(mix(person.target, None, 1.0)) for person in people]

    def mixture(self, person: Person, weight: float | None, draw: int) -> NDArray[np.float16]:
        """What the server sees of a person under client key number ``draw``; the weight drawn if None."""
        key = ClientKey(hashlib.sha256(f"audit {draw}".encode()).digest())
        reference = draw_reference(self.model, Stream(key.derive("reference", person.content)))
        share = (
            draw_weight(key.derive("weight", person.content), self.bundle.weight_range) if weight is None else weight
        )
        return mix(person.target, reference, share)

    def twice(self) -> list[int]:
        """Indices of the visits of people who were scanned more than once."""
        subjects = [person.subject for person in self.people]
        return [i for i, subject in enumerate(subjects) if subjects.count(subject) > 1]

    def gallery(self, query: int) -> list[int]:
        """One scan of every person, never the query's own: the other visit of the same person, the first of others."""
        chosen: dict[str, int] = {}
        for index, person in enumerate(self.people):
            if index != query:
                chosen.setdefault(person.subject, index)
        return list(chosen.values())

    def link(self, setting: str, weight: float | None, draws: int, views: int = 1) -> Linkage:
        """Link the mean of ``views`` mixtures of each twice-scanned visit to the gallery; weight 1 is the raw scan."""
        hits, own, chance = [], [], 1.0
        for query in self.twice():
            person, gallery = self.people[query], self.gallery(query)
            chance = 1 / len(gallery)
            for draw in range(draws):
                if weight == 1.0:
                    seen = fine_structure(mix(person.target, None, 1.0))
                else:
                    parts = [self.mixture(person, weight, draw * views + k).astype(np.float32) for k in range(views)]
                    seen = fine_structure(np.mean(parts, axis=0))
                scores = [float(np.vdot(seen, self.details[i])) for i in gallery]
                hits.append(self.people[gallery[int(np.argmax(scores))]].subject == person.subject)
                own.append(float(np.vdot(seen, self.details[query])))
        return Linkage(setting, float(np.mean(hits)), len(hits), chance, float(np.mean(own)))


def write_report(results: Sequence[Linkage], people: int, twice: int, command: str, where: str, path: Path) -> None:
    """Write the table with what its size does not allow to conclude."""
    lines = [
        "# A first look at what the server could do",
        "",
        f"Gallery: one conformed scan of each of {people} people. Queries: {twice} visits of people whose other visit",
        "is in the gallery, each with fresh client keys. The attack needs no training: it correlates what high-pass",
        "filters leave of the images.",
        "",
        "| what the server sees | right person first | trials | chance | correlation with the scan itself |",
        "|---|---|---|---|---|",
        *(f"| {r.setting} | {r.rank_1:.2f} | {r.trials} | {r.chance:.3f} | {r.own_correlation:.2f} |" for r in results),
        "",
        "Trials are not independent: they come from very few people, so no interval is given and small differences",
        "mean nothing. A row near 1 means: whoever holds another scan of the patient recognises the mixture.",
        "",
        f"{where}. Made by `{command}`.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
