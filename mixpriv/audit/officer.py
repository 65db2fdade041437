"""The first page of a report, for a data-protection officer: three risks, what was tried, and what was found.

The risks and their words are those of the Article 29 Working Party's Opinion 05/2014 on Anonymisation Techniques.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixpriv.audit.controls import BLIND
from mixpriv.audit.findings import Finding
from mixpriv.audit.registry import INFERENCE, LINKABILITY, SINGLING_OUT, attacks

WORDS = {
    SINGLING_OUT: "the possibility to isolate some or all records which identify an individual in the dataset",
    LINKABILITY: "the ability to link, at least, two records concerning the same data subject or a group of data "
    "subjects",
    INFERENCE: "the possibility to deduce, with significant probability, the value of an attribute from the values of "
    "a set of other attributes",
}
"""What each risk means, in the opinion's words."""

MEASURED = {
    SINGLING_OUT: "how often the right person comes first among all people whose scans the attacker holds",
    LINKABILITY: "how often a scan of the same person scores above a scan of another; guessing gives 0.50",
    INFERENCE: "how much nearer the attacker comes to the scan or its segmentation than by what all brains share",
}
"""How each risk was measured, in plain words."""

NOT_TRIED = "Not tried: age, sex and diagnosis, and what nobody has published. No test shows that nothing can be found."

_FIGURES = {"rank-1": SINGLING_OUT, "AUC": LINKABILITY}
_BEYOND = ("over template", "over atlas prior")
_FAR = 3
"""Times guessing: from there on a person is found far more often than by guessing."""


@dataclass(frozen=True)
class Risk:
    """One risk of one mode: what was tried, the attack that found most, and what attacks find in noise."""

    risk: str
    mode: str
    tried: tuple[str, ...]
    worst: Finding
    in_noise: float

    @property
    def found(self) -> str:
        """The figure with its interval, and what guessing finds."""
        one = self.worst
        return (
            f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]; guessing {one.baseline:.2f} ({one.attack}, {one.figure})"
        )

    @property
    def says(self) -> str:
        """What that means, in plain words."""
        one = self.worst
        if one.low <= max(one.baseline, self.in_noise):  # of several ways the best is taken, in noise as well
            return (
                "These attacks found no more than guessing, or than in noise. That is no proof that nothing is there."
            )
        if self.risk == SINGLING_OUT and one.low > _FAR * one.baseline:
            return "The right person is found far more often than by guessing."
        if self.risk == INFERENCE:
            return "Something of this very person is learned."
        return "More is found than by guessing, and than in noise."


def risks(findings: Sequence[Finding]) -> list[Risk]:
    """Each risk of each mode that anything was tried for; the controls first, as they come."""
    table: list[Risk] = []
    noise = [one for one in findings if one.mode == BLIND.name]
    for mode in dict.fromkeys(one.mode for one in findings):
        for risk in WORDS:
            own = [one for one in findings if one.mode == mode and risk_of(one) == risk]
            if own:
                tried = tuple(dict.fromkeys(one.attack for one in own))
                worst = max(own, key=lambda one: one.value - max(one.baseline, _in_noise(one, noise)))
                table.append(Risk(risk, mode, tried, worst, _in_noise(worst, noise)))
    return table


def _in_noise(one: Finding, noise: Sequence[Finding]) -> float:
    """The most that is found in noise: rates compare with each other, other figures with the same figure alone."""
    risk = risk_of(one)
    same = [f for f in noise if risk_of(f) == risk and (risk != INFERENCE or f.figure == one.figure)]
    return max((f.value for f in same), default=-1.0)


def risk_of(finding: Finding) -> str | None:
    """Which of the three a figure is about; None for what is about none of them."""
    for beginning, risk in _FIGURES.items():
        if finding.figure.startswith(beginning) and "same reference" not in finding.figure:
            return risk
    if any(words in finding.figure for words in _BEYOND) and "PSNR" not in finding.figure:
        return INFERENCE
    known = attacks().get(finding.attack)
    return None if known is None else known.risk


def rows(findings: Sequence[Finding]) -> list[list[str]]:
    """The first page's table, its head first."""
    head = ["mode", "risk", "tried", "what was found most", "what that means"]
    return [head, *([one.mode, one.risk, ", ".join(one.tried), one.found, one.says] for one in risks(findings))]


def introduction() -> list[str]:
    """What the three risks are and how they were measured; one paragraph each."""
    said = [f"{risk.capitalize()}: {words}. Measured: {MEASURED[risk]}." for risk, words in WORDS.items()]
    return [
        *said,
        "Mode none is the unprotected brain, mode blind is noise in its place. They show what the attacks find at most "
        "and at least. Brackets are 95 % intervals over people.",
        NOT_TRIED,
    ]
