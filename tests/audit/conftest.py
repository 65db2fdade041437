"""A few synthetic people on a coarse grid."""

from __future__ import annotations

import pytest

from mixpriv.audit.linkage import Linker
from mixpriv.audit.people import People
from mixpriv.audit.phantoms import phantom_people, phantom_world
from mixpriv.audit.scene import Effort, Scene, template_of
from mixpriv.audit.views import Mode, World

EFFORT = Effort(queries=6, bank=4, requests=(4,), steps=40)


class Stage:
    """Scenes of the same people in any mode."""

    def __init__(self, world: World, people: People) -> None:
        self.world, self.people = world, people
        self.linker = Linker.of([visit.image for visit in people.gallery], world.spacing_mm)
        self.template = template_of(people)

    def scene(self, mode: Mode, effort: Effort = EFFORT) -> Scene:
        return Scene(self.world, self.people, mode, self.linker, self.template, effort)


@pytest.fixture(scope="session")
def stage() -> Stage:
    world = phantom_world(6.0)
    return Stage(world, phantom_people(world, 14, 8))
