"""Scores of subjects: the mean over classes and visits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mixpriv.evaluation.method_id import MethodId
from mixpriv.evaluation.metrics import Score


def per_subject(
    scores: Sequence[Score], method: MethodId, labels: Sequence[int], metric: str = "dice"
) -> dict[str, float]:
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


def difference(
    scores: Sequence[Score], method: MethodId, other: MethodId, labels: Sequence[int]
) -> NDArray[np.float64]:
    """Dice of a method less another's, subject by subject."""
    ours, theirs = per_subject(scores, method, labels), per_subject(scores, other, labels)
    return np.array([ours[subject] - theirs[subject] for subject in theirs])
