"""Bars that a mode must meet, read from a TOML file; and when an audit says nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import tomllib

from mixpriv.audit.findings import Finding
from mixpriv.errors import InputError, MixprivError

EXIT_BARS = 6
"""Exit code when a bar of the policy is not met."""

CONTROL = 0.8
"""Raw scans must be linked at this rate, else the attack or the data is too weak for any conclusion."""

_SHIPPED = Path(__file__).parent / "configs"


class InvalidAuditError(MixprivError):
    """A control failed: raw scans were not linked, or noise was. The figures mean nothing."""

    exit_code = 7


@dataclass(frozen=True)
class Bar:
    """The most a figure may be; mode, attack and figure are patterns. ``times_baseline`` is relative to guessing."""

    attack: str
    figure: str
    mode: str = "*"
    at_most: float | None = None
    times_baseline: float | None = None

    def limit(self, finding: Finding) -> float:
        """The bar for one figure."""
        return self.at_most if self.at_most is not None else (self.times_baseline or 0.0) * finding.baseline

    def covers(self, finding: Finding) -> bool:
        """Whether the bar is about a figure."""
        pairs = ((finding.attack, self.attack), (finding.figure, self.figure), (finding.mode, self.mode))
        return all(fnmatchcase(name, pattern) for name, pattern in pairs)


@dataclass(frozen=True)
class Verdict:
    """One figure against its bar."""

    finding: Finding
    limit: float

    @property
    def met(self) -> bool:
        """Whether the figure, as a point, is within the bar."""
        return self.finding.value <= self.limit + 1e-9


def load_policy(name: str) -> list[Bar]:
    """Read bars from a TOML file, or a shipped policy by its name.

    Raises
    ------
    InputError
        no such file, no TOML, or a bar without exactly one of ``at_most`` and ``times_baseline``.
    """
    path = Path(name) if Path(name).suffix == ".toml" else _SHIPPED / f"{name}.toml"
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["bar"]
        bars = [Bar(**row) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"policy {name}: expected a TOML file of [[bar]] tables ({type(error).__name__})") from None
    if any((bar.at_most is None) == (bar.times_baseline is None) for bar in bars):
        raise InputError(f"policy {name}: expected either at_most or times_baseline in every bar")
    return bars


def judge(findings: Sequence[Finding], bars: Sequence[Bar]) -> list[Verdict]:
    """Every figure that a bar covers.

    Raises
    ------
    InputError
        a bar covers nothing: it would be met by not looking.
    """
    verdicts = []
    for bar in bars:
        covered = [finding for finding in findings if bar.covers(finding)]
        if not covered:
            raise InputError(f"policy: the bar on {bar.attack}, {bar.figure!r}, mode {bar.mode!r} covers no figure")
        verdicts += [Verdict(finding, bar.limit(finding)) for finding in covered]
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
