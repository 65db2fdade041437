"""Calibration: what is normal, what each symptom takes from the score, and where the limits lie; from trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from mixpriv.bundle import Bundle
from mixpriv.evaluation.quality_runs import AS_IT_IS, Trial
from mixpriv.quality.after import score_of, symptoms
from mixpriv.quality.norms import NAMES, SCHEMA, SIDES, Normal, Norms, deviations, values
from mixpriv.quality.signs import Signs

BAD = 0.75
"""A mean Dice below it is what the score is to find."""

FALSE_ALARMS = 0.05
"""Of good results, how many may fall below the score's limit; of every other check a fifth as many."""

_MARGIN = 1.1
_RIDGE = 0.3
_FLOORS = {
    "certainty": 0.005, "volume": 0.1, "symmetry": 0.01, "mirrored": 0.03, "fragments": 0.3, "place": 0.7,
    "spread": 0.03, "contrast": 0.02, "smooth contrast": 0.02, "step": 0.02, "steadiness": 0.02, "grain": 0.1,
    "border": 0.04, "outside": 0.3, "cut": 0.7,
}  # fmt: skip
"""Smallest deviations: a sign that hardly differs between these people may do so between others."""

DRIFTS = {"ventricle": 0.3 / 18, "grey matter": -0.7 / 550, "cortex": -0.7 / 550}
"""Change in a year, as a share: ventricles grow by .3 ml, cortex loses .7 ml (Pfefferbaum et al., Arch Neurol 1994)."""


def calibrate(trials: Sequence[Trial], bundle: Bundle, counted: tuple[int, ...], age: float) -> Norms:
    """Find the norms in the trials of the people who set them; ``age``: theirs, years."""
    seen = [trial for trial in trials if trial.signs is not None]
    normal = _normal([signs(trial) for trial in seen if trial.kind == AS_IT_IS], counted)
    drift = np.array([_drift(bundle.classes[k]) for k in counted])
    empty = Norms(counted, bundle.spacing_mm, normal, drift, age, 1.0, {}, {})
    labelled = [trial for trial in seen if trial.dice]
    fitted = _weighted(empty, labelled)
    return replace(fitted, limits=_limits(fitted, seen))


def mean_dice(trial: Trial, counted: Sequence[int]) -> float:
    """Of the counted classes."""
    return float(np.mean([trial.dice[k - 1] for k in counted]))


def signs(trial: Trial) -> Signs:
    """Of a trial that was not refused."""
    assert trial.signs is not None  # noqa: S101 - its callers leave the others out
    return trial.signs


def _drift(name: str) -> float:
    return next((drift for part, drift in DRIFTS.items() if part in name and "sub" not in name), 0.0)


def _normal(good: Sequence[Signs], counted: tuple[int, ...]) -> dict[str, Normal]:
    found = [values(each, counted) for each in good]
    normal = {}
    for name in NAMES:
        stacked = np.stack([each[name] for each in found])
        # the median: one odd result among the good ones is not to make others normal
        middle = np.median(stacked, axis=0)
        spread = 1.4826 * np.median(np.abs(stacked - middle), axis=0)
        normal[name] = Normal(middle, np.maximum(np.maximum(spread, 0.7 * stacked.std(axis=0)), _FLOORS[name]))
    return normal


def _weighted(norms: Norms, labelled: Sequence[Trial]) -> Norms:
    """Least squares in which no symptom can make a result better."""
    names = [f"{name} {side}" for name in NAMES for side in SIDES]
    found = [symptoms(signs(trial), norms) for trial in labelled]
    table = np.column_stack([np.ones(len(labelled)), *(-np.array([each[name] for each in found]) for name in names)])
    ridge = _RIDGE * np.eye(table.shape[1])[1:]
    dice = np.array([mean_dice(trial, norms.counted) for trial in labelled])
    solution, _ = nnls(np.vstack([table, ridge]), np.concatenate([dice, np.zeros(len(ridge))]))
    weights = {name: round(float(w), 4) for name, w in zip(names, solution[1:], strict=True) if w > 5e-5}
    return replace(norms, best=round(float(solution[0]), 4), weights=weights)


def _limits(norms: Norms, seen: Sequence[Trial]) -> dict[str, float]:
    """Where few good results lie beyond: scans as they are, and others of a good Dice."""
    good = [t for t in seen if (mean_dice(t, norms.counted) >= BAD if t.dice else t.kind == AS_IT_IS)]
    z = [deviations(signs(t), norms) for t in good]
    own = np.array(norms.counted) - 1
    scores = [score_of(signs(t), norms) for t in good]

    def least(found: Sequence[float]) -> float:
        return float(np.quantile(found, FALSE_ALARMS / 5)) / _MARGIN

    def most(found: Sequence[float]) -> float:
        return float(np.quantile(found, 1 - FALSE_ALARMS / 5)) * _MARGIN

    far_mm = [
        norms.spacing_mm * np.linalg.norm(signs(t).place[own] - norms.normal["place"].mean, axis=1).max() for t in good
    ]
    agreed = [agreement for t in good if (agreement := signs(t).agreement) is not None]
    return {
        "score": float(np.quantile(scores, FALSE_ALARMS)),
        "certainty": least([float(signs(t).certainty[own].mean()) for t in good]),
        "fit": least([signs(t).smooth_contrast for t in good]),
        "agreement": least(agreed) if agreed else 0.0,
        "volume": most([float(np.abs(each["volume"]).max()) for each in z]),
        "sides": most([float(np.abs(each["symmetry"]).max()) for each in z]),
        "fragments": most([float(each["fragments"].max()) for each in z]),
        "place": most(far_mm),
    }


def encode_norms(norms: Norms, bundle: Bundle, made: str) -> dict[str, Any]:
    """What ``quality.json`` holds."""

    def plain(array: NDArray[np.float64]) -> Any:
        return np.round(array, 4).tolist()

    normal: Mapping[str, Any] = {
        name: {"mean": plain(each.mean), "deviation": plain(each.deviation)} for name, each in norms.normal.items()
    }
    return {
        "schema": SCHEMA,
        "fingerprint": bundle.fingerprint,
        "made": made,
        "counted": list(norms.counted),
        "normal": normal,
        "drift": plain(norms.drift),
        "age": norms.age,
        "best": norms.best,
        "weights": dict(norms.weights),
        "limits": {name: round(limit, 4) for name, limit in norms.limits.items()},
    }
