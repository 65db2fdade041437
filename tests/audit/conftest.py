"""A few synthetic people on a coarse grid."""

from __future__ import annotations

import pytest

from mixpriv.audit.cohort import Cohort
from mixpriv.audit.context import Budget, Context, template_of
from mixpriv.audit.linkage import Linker
from mixpriv.audit.phantoms import phantom_cohort, phantom_environment
from mixpriv.audit.simulation import Environment
from mixpriv.protection.modes import Mode

BUDGET = Budget(queries=6, bank=4, requests=(4,), steps=40)


class Stage:
    """Contexts of the same cohort in any mode."""

    def __init__(self, environment: Environment, cohort: Cohort) -> None:
        self.environment, self.cohort = environment, cohort
        self.linker = Linker.of([visit.image for visit in cohort.gallery], environment.spacing_mm)
        self.template = template_of(cohort)

    def context(self, mode: Mode, budget: Budget = BUDGET) -> Context:
        return Context(self.environment, self.cohort, mode.name, mode, self.linker, self.template, budget)


@pytest.fixture(scope="session")
def stage() -> Stage:
    environment = phantom_environment(6.0)
    return Stage(environment, phantom_cohort(environment, 14, 8))
