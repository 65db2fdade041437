"""Means and intervals over subjects, never over cases, classes or seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mixpriv.evaluation.metrics import Score


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % percentile interval over subjects (one value each, 10,000 resamples)."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(10_000, len(values)))].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def per_subject(scores: Sequence[Score], method: str, labels: Sequence[int], metric: str = "dice") -> dict[str, float]:
    """Mean of a metric for each subject: over the classes, then over the person's visits; NaN is left out."""
    cases: dict[tuple[str, str], list[float]] = defaultdict(list)
    for score in scores:
        value = getattr(score, metric)
        if score.method == method and score.label in labels and not np.isnan(value):
            cases[score.subject, score.case].append(value)
    subjects: dict[str, list[float]] = defaultdict(list)
    for (subject, _), values in cases.items():
        subjects[subject].append(float(np.mean(values)))
    return {subject: float(np.mean(values)) for subject, values in sorted(subjects.items())}


def difference(scores: Sequence[Score], method: str, other: str, labels: Sequence[int]) -> NDArray[np.float64]:
    """Dice of a method less another's, subject by subject."""
    ours, theirs = per_subject(scores, method, labels), per_subject(scores, other, labels)
    return np.array([ours[subject] - theirs[subject] for subject in theirs])
