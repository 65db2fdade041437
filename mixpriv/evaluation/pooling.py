"""Scores of several files in one table: the folds of one config, or several trainings on the same scans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixpriv.errors import InputError
from mixpriv.evaluation.method_id import MethodId
from mixpriv.evaluation.metrics import Score
from mixpriv.evaluation.report import (
    Run,
    against_plain,
    against_the_client_alone,
    read_scores,
    table,
    the_worst,
)
from mixpriv.evaluation.subjects import per_subject

_INTERVALS = "Intervals: bootstrap over subjects (visits of one person averaged first), 10,000 resamples;"


def read_parts(paths: Sequence[Path]) -> list[list[Score]]:
    """Scores of several files that measured the same methods; InputError if they differ in them."""
    parts = [read_scores(path) for path in paths]
    methods = [list(dict.fromkeys(score.method for score in part)) for part in parts]
    for path, names in zip(paths, methods, strict=True):
        if names != methods[0]:
            raise InputError(f"{path.name}: expected the methods of {paths[0].name}, got others")
    return parts


def pool(paths: Sequence[Path]) -> list[Score]:
    """Scores of several files that measured the same methods on different scans.

    Raises
    ------
    InputError
        the files differ in their methods, or two have a scan in common.
    """
    parts = read_parts(paths)
    cases: set[str] = set()
    for path, part in zip(paths, parts, strict=True):
        common = cases & {score.case for score in part}
        if common:
            raise InputError(f"{path.name}: expected scans that no other file has, got {min(common)} again")
        cases |= {score.case for score in part}
    return [score for part in parts for score in part]


def common_parts(paths: Sequence[Path]) -> tuple[list[list[Score]], list[MethodId]]:
    """Scores of several files by the methods that all have, and the other methods; InputError if none is common."""
    parts = [read_scores(path) for path in paths]
    methods = dict.fromkeys(score.method for part in parts for score in part)
    left_out = [name for name in methods if any(all(score.method != name for score in part) for part in parts)]
    if len(left_out) == len(methods):
        raise InputError(f"{paths[-1].name}: expected a method of {paths[0].name}, got others")
    return [[score for score in part if score.method not in left_out] for part in parts], left_out


def average(paths: Sequence[Path]) -> list[Score]:
    """Scores of several trainings on the same scans, by the methods that all have: each scan's mean over them.

    Raises
    ------
    InputError
        the files have no method in common, or differ in their scans.
    """
    found: dict[tuple[MethodId, str, str, int], list[Score]] = defaultdict(list)
    for part in common_parts(paths)[0]:
        for score in part:
            found[score.method, score.subject, score.case, score.label].append(score)
    for (_, _, case, _), scores in found.items():
        if len(scores) != len(paths):
            raise InputError(f"{paths[0].name}: expected the same scans in every file, got {case} in {len(scores)}")
    return [
        Score(
            *key,
            float(np.mean([s.dice for s in scores])),
            float(np.nanmean([s.hd95_mm for s in scores])) if not all(np.isnan(s.hd95_mm) for s in scores) else np.nan,
            float(np.mean([s.volume_similarity for s in scores])),
        )
        for key, scores in found.items()
    ]


def each_training(paths: Sequence[Path], counted: Sequence[int]) -> list[str]:
    """Mean Dice of every training by itself, and how far the means spread (standard deviation), as markdown."""
    parts = common_parts(paths)[0]
    head = ["method", *(path.stem for path in paths), "standard deviation"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for method in dict.fromkeys(score.method for score in parts[0]):
        means = [float(np.mean(list(per_subject(part, method, counted).values()))) for part in parts]
        lines.append(f"| {method} | {' | '.join(f'{m:.3f}' for m in means)} | {np.std(means, ddof=1):.3f} |")
    return lines


def write_pooled(
    scores: Sequence[Score], name: str, classes: Sequence[str], run: Run, paths: Sequence[Path], path: Path,
    *, repeats: bool = False,
) -> None:  # fmt: skip
    """Write one table of the scores of several files: of all folds, or with ``repeats`` of several trainings."""
    subjects, cases = {score.subject for score in scores}, {score.case for score in scores}
    if repeats:
        what = [
            f"{len(cases)} scans of {len(subjects)} subjects, each measured with the networks of {len(paths)}",
            "trainings that differ in their seed alone; a scan's scores are their mean. Dice, 95 % Hausdorff distance",
            f"and volume similarity in the scan's own grid. {_INTERVALS}",
            "how far the trainings lie apart stands in the second table.",
        ]
        left_out = common_parts(paths)[1]
        what += [f"Not every training measured {', '.join(map(str, left_out))}."] if left_out else []
    else:
        what = [
            f"{len(cases)} scans of {len(subjects)} subjects, each measured with the networks of the fold that held",
            "the person out; the networks differ from fold to fold. Dice, 95 % Hausdorff distance and volume",
            f"similarity in the scan's own grid. {_INTERVALS}",
            "they say nothing of other scanners, protocols or diseases, nor of another training.",
        ]
    lines = [
        f"# {name}: accuracy on the {run.split} scans",
        "",
        *what,
        "",
        *table(scores, classes, run.counted, {}, {}),
        "",
        "What the server adds, paired:",
        "",
        *(against_the_client_alone(scores, run.counted) or ["- no control was measured"]),
        *against_plain(scores, run.counted),
        "",
        the_worst(scores, classes, run.counted),
        *(["", "Mean Dice of every training:", "", *each_training(paths, run.counted)] if repeats else []),
        "",
        f"Pooled at commit {run.commit} from {', '.join(f'[{file.name}]({file.name})' for file in paths)};",
        "beside each stands the table with its own commit, networks and hardware.",
        "",
        f"Made by `{run.command}`.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
