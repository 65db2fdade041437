"""Synthetic people who were scanned twice: the generator's brains, each person's folds their own.

Small enough that every attack runs in a continuous integration; made of nothing but the shipped statistics. References
come from the same generator, so people and references are alike to the eye: the hardest case for separation.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from mixpriv.audit.people import People, Visit, rescan
from mixpriv.audit.views import World, ideal_answer
from mixpriv.bundle import load_bundle
from mixpriv.imaging.resample import Conformed, Grid
from mixpriv.protection.keystream import Stream
from mixpriv.protection.reference import ReferenceModel, draw_labels, paint

SPACING_MM = 4.0
_WEIGHTS = (0.4, 0.7)


def phantom_model(spacing_mm: float = SPACING_MM) -> ReferenceModel:
    """The generator of the bundle ``brain-t1`` on a coarser grid of the same field of view."""
    model = ReferenceModel.load(load_bundle("brain-t1").reference_path)
    share = model.spacing_mm / spacing_mm
    d, h, w = (round(n * share) for n in model.grid_shape)
    return replace(model, step=model.step * share, spacing_mm=spacing_mm, grid_shape=(d, h, w))


def phantom_world(spacing_mm: float = SPACING_MM) -> World:
    """Public knowledge at phantom scale; the server's network makes no mistakes."""
    model = phantom_model(spacing_mm)
    classes = int(model.tissue_of.max()) + 1
    return World(spacing_mm, classes, _WEIGHTS, model, ideal_answer(classes))


def phantom(number: int, world: World) -> Visit:
    """Person number ``number``, before any scan's effects."""
    content = hashlib.sha256(f"phantom {number}".encode()).digest()
    stream = Stream(content)
    classes = draw_labels(world.model, stream)
    image = paint(classes, world.model.intensity_range, world.spacing_mm, stream)
    grid = Grid(world.shape, np.diag([world.spacing_mm] * 3 + [1.0]))
    target = Conformed(image, (classes > 0).astype(np.uint8), (0.0, 1.0), grid)
    name = f"phantom-{number:02d}"
    return Visit(name, name, content, target, world.model.tissue_of[classes])


def phantom_people(world: World, subjects: int = 32, attackers: int = 16) -> People:
    """People with two visits each; the last ``attackers`` of them are the attacker's own."""
    persons = [phantom(number, world) for number in range(subjects)]
    victims, own = persons[: subjects - attackers], persons[subjects - attackers :]
    return People(
        queries=tuple(rescan(person, 0) for person in victims),
        gallery=tuple(rescan(person, 1) for person in victims),
        known=tuple(rescan(person, number) for person in own for number in (0, 1)),
    )
