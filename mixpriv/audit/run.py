"""An audit: every attack on every mode, with both controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mixpriv.audit.cohort import Cohort
from mixpriv.audit.context import Budget, Context, template_of
from mixpriv.audit.controls import BLIND, NONE
from mixpriv.audit.findings import Finding
from mixpriv.audit.linkage import Linker
from mixpriv.audit.policy import check_controls
from mixpriv.audit.registry import find
from mixpriv.audit.simulation import Environment
from mixpriv.protection.modes import Mode
from mixpriv.reid.features import Image


@dataclass(frozen=True)
class Audit:
    """All findings, and pictures by mode and name."""

    findings: Sequence[Finding]
    pictures: Mapping[str, Mapping[str, Image]] = field(repr=False)


def run(
    environment: Environment,
    cohort: Cohort,
    modes: Mapping[str, Mode],
    attacks: Sequence[str],
    budget: Budget,
    tell: Callable[[str], None] = lambda what: None,
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
    findings: list[Finding] = []
    pictures: dict[str, dict[str, Image]] = {}
    controls: tuple[Mode, ...] = (NONE, BLIND)
    for mode in controls:
        tell(f"control {mode.name}: A1")
        context = Context(environment, cohort, mode.name, mode, linker, template, budget)
        findings += find("A1").run(context).findings
    check_controls(findings)
    for name, mode in modes.items():
        context = Context(environment, cohort, name, mode, linker, template, budget)
        pictures[name] = {}
        for number in attacks:
            tell(f"{name}: {number}")
            outcome = find(number).run(context)
            if not (number == "A1" and mode in controls):  # these are done already
                findings += outcome.findings
            pictures[name].update(outcome.pictures)
    return Audit(findings, pictures)
