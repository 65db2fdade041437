"""An audit: every attack on every mode, with both controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mixpriv.audit.cohort import Cohort
from mixpriv.audit.context import Budget, Context, template_of
from mixpriv.audit.controls import BLIND, NONE
from mixpriv.audit.findings import Finding
from mixpriv.audit.images import embedded
from mixpriv.audit.journal import Done, Journal, Step
from mixpriv.audit.linkage import Linker
from mixpriv.audit.policy import check_controls
from mixpriv.audit.registry import find
from mixpriv.audit.simulation import Environment
from mixpriv.protection.modes import Protection


@dataclass(frozen=True)
class Audit:
    """All findings, and pictures (PNGs in data URLs) by mode and name."""

    findings: Sequence[Finding]
    pictures: Mapping[str, Mapping[str, str]] = field(repr=False)


def run(
    environment: Environment,
    cohort: Cohort,
    modes: Mapping[str, Protection],
    attacks: Sequence[str],
    budget: Budget,
    journal: Journal,
) -> Audit:
    """Attack raw scans and noise by A1, and every mode, by its name in the report, by the attacks.

    Raises
    ------
    InvalidAuditError
        raw scans are not linked, or noise is.
    InputError
        an attack needs PyTorch, which is not installed.
    """
    linker = Linker.of([visit.image for visit in cohort.gallery], environment.spacing_mm)
    template = template_of(cohort)
    controls: dict[str, Protection] = {NONE.name: NONE, BLIND.name: BLIND}
    known = {**controls, **modes}
    contexts: dict[str, Context] = {}

    def work(step: Step) -> tuple[list[Finding], Mapping[str, str]]:
        if step.mode not in contexts:
            contexts.clear()  # of one mode at a time: they hold its requests
            contexts[step.mode] = Context(environment, cohort, step.mode, known[step.mode], linker, template, budget)
        outcome = find(step.attack).run(contexts[step.mode])
        return list(outcome.findings), {name: embedded(image) for name, image in outcome.pictures.items()}

    plan = [Step(name, "A1") for name in controls]
    check_controls(_findings(journal.steps(plan, work)))
    plan += [step for name in modes for number in attacks if (step := Step(name, number)) not in plan]
    done = journal.steps(plan, work)
    pictures: dict[str, dict[str, str]] = {name: {} for name in modes}
    for step, one in zip(plan, done, strict=True):
        pictures.get(step.mode, {}).update(one.pictures)
    return Audit(_findings(done), pictures)


def _findings(done: Sequence[Done]) -> list[Finding]:
    return [finding for one in done for finding in one.findings]
