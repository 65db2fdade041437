"""The page about the score: how well it tells bad results from good ones, of people who did not set its limits."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mixpriv.bundle import Bundle
from mixpriv.evaluation.quality_fit import BAD, mean_dice, signs
from mixpriv.evaluation.quality_runs import AS_IT_IS, REPORT, Trial
from mixpriv.quality.after import judge_signs, score_of
from mixpriv.quality.norms import Norms

_RESAMPLES = 2000

Values = NDArray[np.float64]
Figure = Callable[[Values, Values], float]


def write_page(trials: Sequence[Trial], norms: Norms, bundle: Bundle, made: Sequence[str], path: Path) -> None:
    """Write the page, and beside it a CSV file with every trial; ``made``: lines that say how."""
    _write_table(trials, norms, path.with_suffix(".csv"))
    reported = [trial for trial in trials if trial.part == REPORT]
    seen = [trial for trial in reported if trial.dice]
    score = np.array([score_of(signs(trial), norms) for trial in seen])
    dice = np.array([mean_dice(trial, norms.counted) for trial in seen])
    people = np.array([trial.person for trial in seen])
    lines = [
        "---",
        "question: Does the score notice a bad result?",
        f"answer: AUC {auc(score, dice):.3f} for a mean Dice below {BAD:g}; r {pearson(score, dice):.2f}",
        f"bundle: {bundle.name} {bundle.version}",
        f"commit: {made[0]}",
        "status: current",
        "---",
        f"# {bundle.name} {bundle.version}: the score of results and their true Dice",
        "",
        f"{len(set(people))} people, {len({trial.case for trial in seen})} scans, {len(seen)} results, of which "
        f"{int((dice < BAD).sum())} have a mean Dice below {BAD:g}. Nobody of these set a limit or a weight.",
        "",
        "| figure | value [95 %] |",
        "|---|---|",
        *(f"| {name} | {_interval(figure, score, dice, people)} |" for name, figure in _FIGURES.items()),
        "",
        f"The score warns below {norms.limits['score']:.2f}. Intervals: bootstrap over people.",
        "",
        *_groups("scan", [trial.kind for trial in seen], score, dice, norms.limits["score"]),
        "",
        *_groups("mode", [trial.mode for trial in seen], score, dice, norms.limits["score"]),
        "",
        *_false_alarms(reported, norms, bundle),
        "",
        *made[1:],
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def auc(score: Values, dice: Values) -> float:
    """How often a bad result has a lower score than a good one; NaN if all are of one kind."""
    bad, good = score[dice < BAD], score[dice >= BAD]
    if not len(bad) or not len(good):
        return float("nan")
    below = bad[:, None] < good[None]
    return float((below + 0.5 * (bad[:, None] == good[None])).mean())


def pearson(score: Values, dice: Values) -> float:
    """Correlation of score and Dice."""
    return float(np.corrcoef(score, dice)[0, 1])


_FIGURES: dict[str, Figure] = {
    f"area under the ROC curve, mean Dice below {BAD:g}": auc,
    "Pearson's r of score and mean Dice": pearson,
    "Spearman's rho": lambda score, dice: float(stats.spearmanr(score, dice).statistic),
    "mean absolute difference": lambda score, dice: float(np.abs(score - dice).mean()),
}


def _interval(figure: Figure, score: Values, dice: Values, people: NDArray[np.str_]) -> str:
    rng, names = np.random.default_rng(0), np.unique(people)
    rows = {name: np.flatnonzero(people == name) for name in names}
    found = []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([rows[name] for name in rng.choice(names, len(names))])
        found.append(figure(score[drawn], dice[drawn]))
    low, high = np.nanquantile(found, (0.025, 0.975))
    return f"{figure(score, dice):.3f} [{low:.3f}, {high:.3f}]"


def _groups(what: str, group: Sequence[str], score: Values, dice: Values, limit: float) -> list[str]:
    lines = [
        f"| {what} | results | mean Dice | score | below {BAD:g}: warned of | others: warned of |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(group):
        own = np.array(group) == name
        bad, flagged = own & (dice < BAD), score < limit
        lines.append(
            f"| {name} | {own.sum()} | {dice[own].mean():.3f} | {score[own].mean():.3f} "
            f"| {(bad & flagged).sum()} of {bad.sum()} | {(own & ~bad & flagged).sum()} of {(own & ~bad).sum()} |"
        )
    return lines


def _false_alarms(reported: Sequence[Trial], norms: Norms, bundle: Bundle) -> list[str]:
    good = [trial for trial in reported if trial.kind == AS_IT_IS and trial.signs is not None]
    failed: dict[str, set[str]] = {}
    for trial in good:
        for check in judge_signs(signs(trial), norms, bundle.classes).checks:
            if check.failed:
                failed.setdefault(trial.person, set()).add(check.name)
    told = "; ".join(f"{person}: {', '.join(sorted(names))}" for person, names in failed.items())
    people = len({trial.person for trial in good})
    refused = len({trial.case for trial in reported if trial.signs is None})
    return [
        f"Good scans as they are, also of people without labels: {people} people, warned of {len(failed)} by any check"
        f"{f' ({told})' if told else ''}.",
        f"Of the scans that were made worse, no brain was found in {refused}; they count nowhere.",
    ]


def _write_table(trials: Sequence[Trial], norms: Norms, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["person", "part", "scan", "severity", "mode", "mean dice", "score"])
        for t in trials:
            dice = f"{mean_dice(t, norms.counted):.4f}" if t.dice else ""
            score = "" if t.signs is None else f"{score_of(t.signs, norms):.4f}"
            writer.writerow([t.person, t.part, t.kind, t.severity, t.mode, dice, score])
