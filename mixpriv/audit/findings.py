"""What an attack found: a figure with its interval over people, beside what guessing or a template would reach."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mixpriv.reid.features import Image
from mixpriv.statistics import bootstrap


@dataclass(frozen=True)
class Finding:
    """One figure of one attack on one mode.

    Attributes
    ----------
    attack : A1 to A8, or ``view`` for what is seen before any attack
    figure : what was measured, such as ``rank-1, registered``
    value, low, high : mean over people and its 95 % bootstrap interval
    baseline, against : what an attacker without the view reaches, and whether that is ``chance`` or a ``template``;
        figures named "over template" have it subtracted already
    subjects, trials : how many people and requests it rests on
    """

    attack: str
    mode: str
    figure: str
    value: float
    low: float
    high: float
    baseline: float
    against: str
    subjects: int
    trials: int


@dataclass(frozen=True)
class Outcome:
    """What an attack found, and pictures of it: name to image (D, H, W) in [0, 1]."""

    findings: Sequence[Finding]
    pictures: Mapping[str, Image] = field(default_factory=dict, repr=False)


def over_people(values: Sequence[float] | NDArray[np.float64], subjects: Sequence[str]) -> tuple[float, float, float]:
    """Mean over people and 95 % bootstrap interval; requests of one person are averaged first.

    Examples
    --------
    >>> [round(float(value), 2) for value in over_people([1, 0, 1], ["Ann", "Ann", "Bob"])][0]
    0.75
    """
    of: dict[str, list[float]] = defaultdict(list)
    for value, subject in zip(values, subjects, strict=True):
        of[subject].append(float(value))
    return bootstrap(np.array([np.mean(own) for own in of.values()]))


def finding(
    attack: str,
    mode: str,
    figure: str,
    values: Sequence[float] | NDArray[np.float64],
    subjects: Sequence[str],
    baseline: float,
    *,
    against: str = "chance",
) -> Finding:
    """A figure from one value for each request."""
    mean, low, high = over_people(values, subjects)
    return Finding(attack, mode, figure, mean, low, high, baseline, against, len(set(subjects)), len(subjects))


COLUMNS = ("attack", "mode", "figure", "value", "low", "high", "baseline", "against", "subjects", "trials")


def to_csv(findings: Sequence[Finding]) -> str:
    """All findings as CSV, three decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in findings:
        cells = [getattr(one, name) for name in COLUMNS]
        writer.writerow([f"{cell:.3f}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()
