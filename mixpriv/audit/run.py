"""An audit: every attack on every mode, with both controls."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mixpriv.audit.findings import Finding, Outcome
from mixpriv.audit.linkage import Linker
from mixpriv.audit.people import People
from mixpriv.audit.policy import check_controls
from mixpriv.audit.scene import Effort, Scene, template_of
from mixpriv.audit.views import BLIND, NONE, Mode, World
from mixpriv.errors import InputError
from mixpriv.reid.features import Image

ATTACKS = {
    "A1": "linkage",
    "A2": "siamese",
    "A3": "bank",
    "A4": "requests",
    "A5": "reuse",
    "A6": "separation",
    "A7": "labels",
    "A8": "side_channels",
}
"""Names of the attacks and of their modules; A2 and A6 need PyTorch."""


@dataclass(frozen=True)
class Audit:
    """All findings, and pictures by mode and name."""

    findings: Sequence[Finding]
    pictures: Mapping[str, Mapping[str, Image]] = field(repr=False)


def run(
    world: World,
    people: People,
    modes: Sequence[Mode],
    attacks: Sequence[str],
    effort: Effort,
    tell: Callable[[str], None] = lambda what: None,
) -> Audit:
    """Attack raw scans and noise by A1, and every mode by the attacks.

    Raises
    ------
    InvalidAuditError
        raw scans are not linked, or noise is.
    InputError
        an attack needs PyTorch, which is not installed.
    """
    linker = Linker.of([visit.image for visit in people.gallery], world.spacing_mm)
    template = template_of(people)
    findings: list[Finding] = []
    pictures: dict[str, dict[str, Image]] = {}
    for mode in (NONE, BLIND):
        tell(f"control {mode.name}: A1")
        findings += _attack("A1")(Scene(world, people, mode, linker, template, effort)).findings
    check_controls(findings)
    for mode in modes:
        scene = Scene(world, people, mode, linker, template, effort)
        pictures[mode.name] = {}
        for name in attacks:
            tell(f"{mode.name}: {name}")
            outcome = _attack(name)(scene)
            if not (name == "A1" and mode in (NONE, BLIND)):  # these are the controls' already
                findings += outcome.findings
            pictures[mode.name].update(outcome.pictures)
    return Audit(findings, pictures)


def _attack(name: str) -> Callable[[Scene], Outcome]:
    if name not in ATTACKS:
        raise InputError(f"attack: expected one of {', '.join(ATTACKS)}, got {name!r}")
    try:
        module = importlib.import_module(f"mixpriv.audit.attacks.{ATTACKS[name]}")
    except ModuleNotFoundError as error:
        raise InputError(f"attack {name} needs {error.name}: install the extra [train], or leave it out") from None
    attack: Callable[[Scene], Outcome] = module.attack
    return attack
