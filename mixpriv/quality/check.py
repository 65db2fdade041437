"""A check: a value beside its limit, and what that means in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mixpriv.bundle import Limit
from mixpriv.errors import InputError, UnfitScanError, printable

Outcome = Literal["pass", "warn", "refuse"]
OLDEST = 120
"""Years."""


@dataclass(frozen=True)
class Check:
    """What was looked at, and how it went.

    Attributes
    ----------
    name : by which ``--send-anyway`` knows it
    value, limit : in the same unit; the limit is the one that was passed or, if none was, the nearest
    unit : of both, "" for a plain number
    outcome : "pass"; "warn": the result may be wrong; "refuse": it is, and nothing is sent to another machine
    words : one line for the user
    """

    name: str
    value: float
    limit: float
    unit: str
    outcome: Outcome
    words: str

    @property
    def failed(self) -> bool:
        """Whether there is something to tell."""
        return self.outcome != "pass"


@dataclass(frozen=True)
class Measure:
    """How a value is told of: what it is, in which unit, and what it may mean where it is too low or too high."""

    about: str
    unit: str
    too_low: str = ""
    too_high: str = ""


def judge(name: str, value: float, limit: Limit, measure: Measure) -> Check:
    """Compare a value with its limit; one that is no number fails.

    Raises
    ------
    ValueError
        the limit has no end at all.

    Examples
    --------
    >>> distance = Measure("largest distance of voxels", "mm", too_high="small structures are lost")
    >>> check = judge("resolution", 6.0, Limit(warn_above=4.0, refuse_above=5.0), distance)
    >>> check.outcome, check.words
    ('refuse', 'largest distance of voxels: 6 mm, expected at most 5 mm: small structures are lost')
    """
    ends = (
        (limit.refuse_below, "refuse", "at least"),
        (limit.refuse_above, "refuse", "at most"),
        (limit.warn_below, "warn", "at least"),
        (limit.warn_above, "warn", "at most"),
    )
    known: list[tuple[float, Outcome, str]] = [(end, worse, side) for end, worse, side in ends if end is not None]  # type: ignore[misc]
    if not known:
        raise ValueError(f"{name}: expected a limit with an end")
    for end, worse, side in known:
        low = side == "at least"
        if not (value >= end if low else value <= end):
            meaning = measure.too_low if low else measure.too_high
            return Check(name, value, end, measure.unit, worse, f"{_words(measure, value, end, side)}: {meaning}")
    end, _, side = min(known, key=lambda each: abs(value - each[0]))
    return Check(name, value, end, measure.unit, "pass", _words(measure, value, end, side))


def _words(measure: Measure, value: float, end: float, side: str) -> str:
    unit = f" {measure.unit}" if measure.unit else ""
    shown = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{measure.about}: {shown}{unit}, expected {side} {end:g}{unit}"


def judged(values: Mapping[str, float], limits: Mapping[str, Limit], told: Mapping[str, Measure]) -> tuple[Check, ...]:
    """Judge each value that a bundle has a limit for."""
    return tuple(judge(name, value, limits[name], told[name]) for name, value in values.items() if name in limits)


def require_fit(scan: str, checks: Sequence[Check], send_anyway: Sequence[str]) -> None:
    """Refuse a scan of which a check says so, unless the user named that check.

    Raises
    ------
    UnfitScanError
        naming each such check.
    """
    refused = [check for check in checks if check.outcome == "refuse" and check.name not in send_anyway]
    if refused:
        reasons = "; ".join(check.words for check in refused)
        hint = " ".join(f"--send-anyway {check.name}" for check in refused)
        raise UnfitScanError(f"{scan}: not sent: {reasons} (sent nevertheless with {hint})", checks)


def require_names(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The names of checks, each known; `InputError` if one is not."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(f"send_anyway: expected a list of names, got {type(names).__name__}")
    for name in names:
        if name not in known:
            raise InputError(f"send_anyway: expected names out of {', '.join(known)}, got {printable(repr(name), 40)}")
    return tuple(names)


def require_age(age: object) -> None:
    """Refuse what is no age of a person in years; `InputError`. None is an unknown one."""
    if age is not None and (isinstance(age, bool) or not isinstance(age, int | float) or not 0 <= age <= OLDEST):
        raise InputError(f"age: expected 0 to {OLDEST} years, got {printable(repr(age), 40)}")
