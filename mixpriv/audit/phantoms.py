"""Synthetic people who were scanned twice: the generator's brains, each person's folds their own.

Small enough that every attack runs in a continuous integration; made of nothing but the shipped statistics. References
come from the same generator, so people and references are alike to the eye: the hardest case for separation.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from mixpriv.audit.cohort import Cohort, Visit, rescan
from mixpriv.audit.simulation import Environment, PublicTerms, ideal_answer
from mixpriv.bundle import Shielded, load_bundle
from mixpriv.imaging.resample import Conformed, Grid
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import ReferenceModel, draw_labels, paint

SPACING_MM = 4.0
_WEIGHTS = (0.4, 0.7)


def phantom_model(spacing_mm: float = SPACING_MM) -> ReferenceModel:
    """The generator of the bundle ``brain-t1`` on a coarser grid of the same field of view."""
    model = ReferenceModel.load(load_bundle("brain-t1").reference_path)
    share = model.spacing_mm / spacing_mm
    d, h, w = (round(n * share) for n in model.grid_shape)
    return replace(model, step=model.step * share, spacing_mm=spacing_mm, grid_shape=(d, h, w))


def phantom_environment(spacing_mm: float = SPACING_MM) -> Environment:
    """Public knowledge at phantom scale; the server's network makes no mistakes."""
    model = phantom_model(spacing_mm)
    classes = int(model.tissue_of.max()) + 1
    terms = PublicTerms("phantoms", model.grid_shape, spacing_mm, _WEIGHTS, _shielded())
    return Environment(terms, classes, model, ideal_answer(classes))


def _shielded() -> Shielded | None:
    """The bundle's mode shielded; its impostors were measured on a finer grid."""
    known = load_bundle("brain-t1").shielded
    return None if known is None else replace(known, impostors=None)


def phantom(number: int, environment: Environment) -> Visit:
    """Person number ``number``, before any scan's effects."""
    content = hashlib.sha256(f"phantom {number}".encode()).digest()
    stream = Keystream(content)
    classes = draw_labels(environment.model, stream)
    image = paint(classes, environment.model.intensity_range, environment.spacing_mm, stream)
    grid = Grid(environment.shape, np.diag([environment.spacing_mm] * 3 + [1.0]))
    target = Conformed(image[None], (classes > 0).astype(np.uint8), ((0.0, 1.0),), grid)
    name = f"phantom-{number:02d}"
    return Visit(name, name, content, target, environment.model.tissue_of[classes])


def phantom_cohort(environment: Environment, subjects: int = 32, attackers: int = 16) -> Cohort:
    """Cohort with two visits each; the last ``attackers`` of them are the attacker's own."""
    persons = [phantom(number, environment) for number in range(subjects)]
    victims, own = persons[: subjects - attackers], persons[subjects - attackers :]
    return Cohort(
        queries=tuple(rescan(person, 0) for person in victims),
        gallery=tuple(rescan(person, 1) for person in victims),
        known=tuple(rescan(person, number) for person in own for number in (0, 1)),
    )
