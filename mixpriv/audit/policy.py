"""Thresholds that a mode must keep to, read from a TOML file; and when an audit says nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import tomllib

from mixpriv.audit.findings import Finding
from mixpriv.errors import InputError, MixprivError

EXIT_THRESHOLDS = 6
"""Exit code when a figure is above a threshold of the policy."""

CONTROL = 0.8
"""Raw scans must be linked at this rate, else the attack or the data is too weak for any conclusion."""

_SHIPPED = Path(__file__).parent / "configs"
_TABLES = {"threshold", "bar"}
"""The second is the earlier name, read for one more version."""


class InvalidAuditError(MixprivError):
    """A control failed: raw scans were not linked, or noise was. The figures mean nothing."""

    exit_code = 7


@dataclass(frozen=True)
class Threshold:
    """The most a figure may be; mode, attack and figure are patterns. ``times_baseline`` is relative to guessing."""

    attack: str
    figure: str
    mode: str = "*"
    at_most: float | None = None
    times_baseline: float | None = None

    def __post_init__(self) -> None:
        texts, numbers = (self.attack, self.figure, self.mode), (self.at_most or 0, self.times_baseline or 0)
        if not all(isinstance(one, str) for one in texts) or not all(isinstance(one, int | float) for one in numbers):
            raise TypeError("attack, figure and mode: expected texts; at_most and times_baseline: numbers")

    def limit(self, finding: Finding) -> float:
        """The most that one figure may be."""
        return self.at_most if self.at_most is not None else (self.times_baseline or 0.0) * finding.baseline

    def covers(self, finding: Finding) -> bool:
        """Whether the threshold is about a figure."""
        pairs = ((finding.attack, self.attack), (finding.figure, self.figure), (finding.mode, self.mode))
        return all(fnmatchcase(name, pattern) for name, pattern in pairs)


@dataclass(frozen=True)
class Verdict:
    """One figure against its threshold."""

    finding: Finding
    limit: float

    @property
    def met(self) -> bool:
        """Whether the figure, as a point, is within its limit."""
        return self.finding.value <= self.limit + 1e-9


def load_policy(name: str) -> list[Threshold]:
    """Read thresholds from a TOML file, or a shipped policy by its name.

    Raises
    ------
    InputError
        no such file, no TOML, another table, or a threshold without exactly one of ``at_most`` and ``times_baseline``.
    """
    path = Path(name) if Path(name).suffix == ".toml" else _SHIPPED / f"{name}.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        if not tables or not set(tables) <= _TABLES:
            raise ValueError("another table")
        thresholds = [Threshold(**row) for rows in tables.values() for row in rows]
    except (OSError, TypeError, ValueError) as error:
        kind = type(error).__name__
        raise InputError(f"policy {name}: expected a TOML file of [[threshold]] tables ({kind})") from None
    if any((one.at_most is None) == (one.times_baseline is None) for one in thresholds):
        raise InputError(f"policy {name}: expected either at_most or times_baseline in every threshold")
    return thresholds


def judge(findings: Sequence[Finding], thresholds: Sequence[Threshold]) -> list[Verdict]:
    """Every figure that a threshold covers.

    Raises
    ------
    InputError
        a threshold covers nothing: it would be met by not looking.
    """
    verdicts = []
    for one in thresholds:
        covered = [finding for finding in findings if one.covers(finding)]
        if not covered:
            raise InputError(
                f"policy: the threshold on {one.attack}, {one.figure!r}, mode {one.mode!r} covers no figure"
            )
        verdicts += [Verdict(finding, one.limit(finding)) for finding in covered]
    return verdicts


def check_controls(findings: Sequence[Finding]) -> None:
    """Raise `InvalidAuditError` unless raw scans are linked and noise is not."""
    best = {f.mode: f for f in findings if f.attack == "A1" and f.figure == "rank-1, best way"}
    raw, blind = best["none"], best["blind"]
    if raw.value < CONTROL:
        raise InvalidAuditError(
            f"audit invalid: raw scans must be linked in {CONTROL:.0%} of the cases, got {raw.value:.0%}"
        )
    if blind.low > 3 * blind.baseline:
        raise InvalidAuditError(
            f"audit invalid: noise must be linked by chance, {blind.baseline:.3f}, got {blind.value:.3f}"
        )
