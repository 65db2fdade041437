"""Accuracy against linkage: what `mixpriv evaluate` and `mixpriv audit` found for the same modes, in one picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixpriv.audit.modes import parse_mode
from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.evaluation import method_id as names
from mixpriv.evaluation.method_id import MethodId
from mixpriv.evaluation.metrics import Score
from mixpriv.evaluation.report import NONE, Run, interval
from mixpriv.evaluation.subjects import difference, per_subject
from mixpriv.protection.modes import Mixup, Mode, Plain, Protection, Shielded
from mixpriv.statistics import bootstrap

BLANKED = MethodId(names.BLANKED)
LOCAL = (MethodId(names.LOCAL), BLANKED)
"""Mode ``local``; an unmixer that can do without an answer is measured as the second."""

LINKED = "rank-1, best way"
"""The figure of attack A1 that counts."""


@dataclass(frozen=True)
class FirstRank:
    """How often the right person came first in what a mode sends, with its interval, and in guessing."""

    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Point:
    """A mode on the front: mean Dice with its interval, and linkage."""

    method: MethodId
    dice: tuple[float, float, float]
    linkage: FirstRank


def read_linkage(paths: Sequence[Path]) -> dict[Protection, FirstRank]:
    """A1's figure by mode, of the ``audit.csv`` files of several audits; InputError if one has none."""
    found: dict[Protection, FirstRank] = {}
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path.name}: no such file")
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if (row.get("attack"), row.get("figure")) == ("A1", LINKED)]
        if not rows:
            raise InputError(f"{path.name}: expected an audit.csv with attack A1, got none")
        for row in rows:
            value, low, high, chance = (float(row[name]) for name in ("value", "low", "high", "baseline"))
            found[parse_mode(row["mode"])] = FirstRank(value, low, high, chance)
    return found


def front(
    scores: Sequence[Score], linkage: Mapping[Protection, FirstRank], counted: Sequence[int], bundle: Bundle
) -> list[Point]:
    """The modes that both have measured; in mode local nothing is sent, so there is nothing to link."""
    points, warp_mm = [], bundle.shielded.warp_mm if bundle.shielded else 0.0
    for method in dict.fromkeys(score.method for score in scores):
        mode = audited_mode(method, warp_mm)
        if mode is not None and mode in linkage:
            here = linkage[mode]
        elif method in LOCAL and (method != BLANKED or bundle.unmixer_alone):
            chance = next(iter(linkage.values())).chance
            here = FirstRank(chance, chance, chance, chance)
        else:
            continue
        points.append(Point(method, bootstrap(np.array(list(per_subject(scores, method, counted).values()))), here))
    return points


def audited_mode(method: MethodId, warp_mm: float) -> Mode | None:
    """The mode that an audit attacks for a method of the evaluation; None if it attacks none."""
    if method.variant or method.references > 1:
        return None
    modes: dict[str, Mode] = {
        names.NONE: Plain(),
        names.MIXUP: Mixup(method.weight),
        names.SHIELDED: Shielded() if method.draws_weight else Shielded(method.weight, warp_mm, check=False),
    }
    return modes.get(method.family)


def write_front(
    scores: Sequence[Score],
    linkage: Mapping[Protection, FirstRank],
    bundle: Bundle,
    run: Run,
    files: Sequence[str],
    path: Path,
) -> None:
    """Write the picture and the table."""
    points = front(scores, linkage, run.counted, bundle)
    picture = path.with_suffix(".png")
    plot(points, picture)
    head = ["method", "mean Dice [95 %]", "difference to none [95 %]", "A1: right person first [95 %]", "times chance"]
    rows = [
        [
            str(point.method),
            "{:.3f} [{:.3f}, {:.3f}]".format(*point.dice),
            interval(difference(scores, point.method, NONE, run.counted)) if point.method != NONE else "",
            "nothing is sent"
            if point.method in LOCAL
            else f"{point.linkage.value:.2f} [{point.linkage.low:.2f}, {point.linkage.high:.2f}]",
            f"{point.linkage.value / point.linkage.chance:.1f}",
        ]
        for point in points
    ]
    lines = [
        f"# {bundle.name} {bundle.version}: accuracy against linkage, {run.split} scans",
        "",
        "Dice over the counted classes, from the evaluation; how often the strongest linkage without training finds",
        "the right person, from the audits. *D, answer blanked* is mode `local`.",
        "",
        f"![Accuracy against linkage]({picture.name})",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"From {', '.join(files)}; each stands beside a page with its commit and hardware.",
        f"Joined at commit {run.commit}.",
        "",
        f"Made by `{run.command}`.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot(points: Sequence[Point], path: Path) -> None:
    """Draw mean Dice against linkage, one line for each family of modes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    families: dict[str, list[Point]] = {}
    for point in points:
        families.setdefault("local" if point.method in LOCAL else point.method.family, []).append(point)
    for family, own in families.items():
        own = sorted(own, key=lambda point: point.linkage.value)
        (line,) = axes.plot([p.linkage.value for p in own], [p.dice[0] for p in own], marker="o", label=family)
        for p in own:
            axes.vlines(p.linkage.value, p.dice[1], p.dice[2], color=line.get_color(), alpha=0.4)
            if p.method.family in names.WEIGHTED:
                axes.annotate(
                    str(p.method).removeprefix(f"{p.method.family}, "), (p.linkage.value, p.dice[0]), fontsize=7
                )
    if points:
        axes.axvline(3 * points[0].linkage.chance, linestyle="--", color="grey", label="three times chance")
    axes.set(xlabel="right person first (A1)", ylabel="mean Dice", xlim=(0, 1.05))
    axes.legend()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)
