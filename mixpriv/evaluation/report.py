"""The result as CSV, markdown and a plot, with everything needed to make it again."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.evaluation import method_id as names
from mixpriv.evaluation.evaluator import Cost, Linkage
from mixpriv.evaluation.method_id import MethodId
from mixpriv.evaluation.metrics import Score
from mixpriv.evaluation.subjects import difference, per_subject
from mixpriv.provenance import hardware
from mixpriv.statistics import bootstrap

NONE = MethodId(names.NONE)

PLAIN = MethodId(names.NONE, variant="plain")
"""The row of an S that was trained on scans alone, a config's ``[variants.plain]``."""


@dataclass(frozen=True)
class Run:
    """How the scores were made, for the report's last lines; ``commit`` is what was checked out when it began."""

    commit: str
    split: str
    counted: tuple[int, ...]
    seed: int
    transport: str
    command: str


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """All scores as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = [field.name for field in fields(Score)]
        writer.writerow(columns)
        for score in scores:
            values = (getattr(score, column) for column in columns)
            writer.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in values])


def read_scores(path: Path) -> list[Score]:
    """Scores that `write_scores` wrote.

    Raises
    ------
    InputError
        there is no such file, or it is another one.
    """
    if not path.is_file():
        raise InputError(f"{path.name}: no such file")
    with path.open(newline="", encoding="utf-8") as file:
        if file.readline().strip().split(",") != [field.name for field in fields(Score)]:
            raise InputError(f"{path.name}: expected scores as evaluate writes them")
        file.seek(0)
        return [
            Score(
                MethodId.parse(row["method"]), row["subject"], row["case"], int(row["label"]),
                float(row["dice"]), float(row["hd95_mm"]), float(row["volume_similarity"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def table(
    scores: Sequence[Score],
    classes: Sequence[str],
    counted: Sequence[int],
    costs: Mapping[MethodId, Cost],
    linkage: Mapping[MethodId, Linkage],
) -> list[str]:
    """The result as markdown: means over the counted classes, difference to ``none``, each class, cost, the worst."""
    head = [
        "method", f"mean Dice, classes {counted[0]}-{counted[-1]} [95 %]", "difference to none [95 %]",
        *classes[1:], "HD95, mm", "volume similarity", "bytes sent + received",
        "A1: right person first [95 %], above strangers", "worst subject",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for method in dict.fromkeys(score.method for score in scores):
        mean = per_subject(scores, method, counted)
        worst = min(mean, key=lambda s: mean[s])
        cells = [
            str(method),
            interval(np.array(list(mean.values()))),
            interval(difference(scores, method, NONE, counted)) if method != NONE else "",
            *(_mean(scores, method, [label], "dice", 3) for label in range(1, len(classes))),
            _mean(scores, method, counted, "hd95_mm", 2),
            _mean(scores, method, counted, "volume_similarity", 3),
            f"{costs[method].sent:,} + {costs[method].received:,}" if method in costs and costs[method].sent else "",
            _linked(linkage[method]) if method in linkage else "",
            f"{worst} {mean[worst]:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def against_the_client_alone(scores: Sequence[Score], counted: Sequence[int]) -> list[str]:
    """One line per control: what the server adds to it, paired, in numbers and in words."""
    methods = dict.fromkeys(score.method for score in scores)
    lines = []
    for method in methods:
        if not (method.draws_weight and method.mixes):
            continue
        for control in (c for c in _controls(method, methods) if c in methods):
            gain = difference(scores, method, control, counted)
            _, low, high = bootstrap(gain)
            words = (
                "the server adds"
                if low > 0
                else "**the client does better alone**"
                if high < 0
                else "no difference seen"
            )
            lines.append(f"- *{method}* less *{control}*: {interval(gain)}: {words}")
    return lines


def _controls(method: MethodId, measured: Collection[MethodId]) -> list[MethodId]:
    """What the client could do alone instead, with the same networks."""
    blanked, own, *others = (
        MethodId(family, variant=method.variant)
        for family in (names.BLANKED, names.SHIELDED_BLANKED, names.LOCAL, names.ALONE)
    )
    return [own if method.family == names.SHIELDED and own in measured else blanked, *others]


def against_plain(scores: Sequence[Score], counted: Sequence[int]) -> list[str]:
    """What is lost to an S that was trained on scans alone, paired: none where no such was measured."""
    methods = dict.fromkeys(score.method for score in scores)
    if PLAIN not in methods:
        return []
    own = [m for m in methods if not m.variant]
    modes = [m for m in own if m == NONE or m.is_rival or (m.draws_weight and m.mixes)]
    lines = [f"- *{m}* less *{PLAIN}*: {interval(difference(scores, m, PLAIN, counted))}" for m in modes]
    return ["", "Against the same S, trained on scans alone, paired:", "", *lines]


def at_equal_linkage(scores: Sequence[Score], linkage: Mapping[MethodId, Linkage], counted: Sequence[int]) -> list[str]:
    """Each other method against the most accurate mixture that is linked no more often, paired: none without both."""
    methods = [method for method in dict.fromkeys(score.method for score in scores) if method in linkage]
    mixing = [method for method in methods if method.mixes]
    mean = {method: float(np.mean(list(per_subject(scores, method, counted).values()))) for method in mixing}
    lines = []
    for rival in (method for method in methods if method.is_rival):
        first = linkage[rival].first.value
        hidden = [method for method in mixing if linkage[method].first.value <= first]
        if not hidden:
            lines.append(f"- *{rival}*, linked {first:.2f}: no mixture is linked so seldom")
            continue
        best = max(hidden, key=lambda method: mean[method])
        gain = difference(scores, best, rival, counted)
        linked = f"linked {linkage[best].first.value:.2f}, less *{rival}*, linked {first:.2f}"
        lines.append(f"- *{best}*, {linked}: {interval(gain)}")
    heading = "Against other methods, the most accurate mixture that is linked (A1) no more often, paired:"
    return ["", heading, "", *lines] if lines else []


def the_worst(scores: Sequence[Score], classes: Sequence[str], counted: Sequence[int]) -> str:
    """Who is segmented worst in mode none, and in which class that person falls most behind the others."""
    mean = per_subject(scores, NONE, counted)
    worst = min(mean, key=lambda s: mean[s])
    if len(mean) < 2:
        return f"Worst in mode none: {worst}, {mean[worst]:.3f}."
    behind = {}
    for label in counted:
        own = per_subject(scores, NONE, [label])
        others = [value for subject, value in own.items() if subject != worst]
        behind[label] = own[worst], float(np.mean(others))
    most = min(behind, key=lambda label: behind[label][0] - behind[label][1])
    own_dice, others_dice = behind[most]
    return (
        f"Worst in mode none: {worst}, {mean[worst]:.3f}, most of all in {classes[most]}: {own_dice:.3f}, where the "
        f"others have {others_dice:.3f} in the mean."
    )


def interval(values: NDArray[np.float64], digits: int = 3) -> str:
    """Mean and bootstrap interval as text."""
    mean, low, high = bootstrap(values)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _linked(linkage: Linkage) -> str:
    first = linkage.first
    return f"{first.value:.2f} [{first.low:.2f}, {first.high:.2f}], {linkage.above.value:.2f}"


def _mean(scores: Sequence[Score], method: MethodId, labels: Sequence[int], metric: str, digits: int) -> str:
    values = list(per_subject(scores, method, labels, metric).values())
    return f"{np.mean(values):.{digits}f}" if values else "-"


def write_report(
    scores: Sequence[Score],
    bundle: Bundle,
    run: Run,
    costs: Mapping[MethodId, Cost],
    linkage: Mapping[MethodId, Linkage],
    path: Path,
    *,
    classes: Sequence[str],
) -> None:
    """Write the table, what the server adds, the plot of the weight sweep, and how it was made."""
    cases, subjects = {score.case for score in scores}, {score.subject for score in scores}
    multiply_adds = bundle.extra.get("multiply_adds", {})
    share = multiply_adds["unmixer"] / multiply_adds["segmenter"] if multiply_adds else float("nan")
    picture = path.with_suffix(".png")
    drawn = plot(scores, run.counted, linkage, picture)
    lines = [
        f"# {bundle.name} {bundle.version}: accuracy on the {run.split} scans",
        "",
        f"{len(cases)} scans of {len(subjects)} subjects; Dice, 95 % Hausdorff distance and volume similarity in the",
        f"scan's own grid, {run.transport}; of a class with two sides the mean of both. Intervals: bootstrap over",
        "subjects (visits of one person averaged first), 10,000 resamples; they say nothing of other scanners,",
        "protocols or diseases, nor of another training.",
        "*D, answer blanked*: the unmixer without an answer, mode `local`; one that was not trained to do so gets the",
        "average anatomy's. *Network of D's size*: trained on the same data, it sees the scan itself. These two are",
        "what a client could do alone.",
        "*A1*: what is sent, linked without training, registration included, to simulated second visits of these",
        f"people: how often the right one comes first (guessing: {1 / len(subjects):.3f}), and a right scan above a",
        "wrong one (guessing: 0.5), by the way of linking that works best; lower is better. Each scan is sent once;",
        "the best of five ways finds a little more than guessing where nothing is to be found.",
        "",
        *table(scores, classes, run.counted, costs, linkage),
        "",
        "What the server adds, paired:",
        "",
        *against_the_client_alone(scores, run.counted),
        *against_plain(scores, run.counted),
        *at_equal_linkage(scores, linkage, run.counted),
        "",
        *([f"![Mean Dice by the target's weight, and by linkage]({picture.name})", ""] if drawn else []),
        f"Multiply-adds for one grid: S {multiply_adds.get('segmenter', 0) / 1e9:.1f} G, "
        f"D {multiply_adds.get('unmixer', 0) / 1e9:.2f} G ({100 * share:.1f} %). {_seconds(costs)}",
        "",
        the_worst(scores, classes, run.counted),
        "",
        f"Commit {run.commit}, segmenter fingerprint {bundle.fingerprint[:12]}, evaluation seed {run.seed}, references",
        f"and weights from fresh keys; {hardware()}. Every score is in [{path.with_suffix('.csv').name}]"
        f"({path.with_suffix('.csv').name}).",
        "",
        f"Made by `{run.command}`.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _seconds(costs: Mapping[MethodId, Cost]) -> str:
    told = [m for m in map(MethodId, (names.NONE, names.MIXUP, names.SHIELDED)) if m in costs]
    parts = [f"*{m}* {costs[m].segment_s:.2f} s in S, {costs[m].reveal_s:.2f} s to reveal" for m in told]
    return f"Seconds a scan here: {'; '.join(parts)}." if parts else ""


def _sweep(methods: Iterable[MethodId], family: str) -> dict[float, MethodId]:
    """The bundle's own methods of a family at fixed weights, by weight."""
    found = {m.weight: m for m in methods if m.family == family and m.weight is not None and not m.variant}
    return dict(sorted(found.items()))


def plot(scores: Sequence[Score], counted: Sequence[int], linkage: Mapping[MethodId, Linkage], path: Path) -> bool:
    """Draw mean Dice against the target's weight and against linkage; False if fewer than three weights were tried."""
    methods = dict.fromkeys(score.method for score in scores)
    families = {names.MIXUP: "unmixed by D", names.LINEAR: "unmixed linearly", names.SHIELDED: "shielded"}
    fixed = {family: _sweep(methods, family) for family in families}
    if len(fixed[names.MIXUP]) < 3:
        return False
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    means = {method: list(per_subject(scores, method, counted).values()) for method in methods}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for family, name in families.items():
        if not fixed[family]:
            continue
        mean, low, high = np.array([bootstrap(np.array(means[method])) for method in fixed[family].values()]).T
        left.errorbar(list(fixed[family]), mean, [mean - low, high - mean], marker="o", capsize=3, label=name)
    left.axhline(float(np.mean(means[NONE])), linestyle="--", color="grey", label="not mixed")
    left.set(xlabel="weight of the target in the mixture", ylabel="mean Dice", ylim=(0, 1))
    left.legend()
    kinds = [(method.variant, method.family) for method in linkage]
    for variant, family in dict.fromkeys(kind for kind in kinds if kind != ("", names.LINEAR)):
        own = [method for method in linkage if (method.variant, method.family) == (variant, family)]
        points = sorted((linkage[method].first.value, np.mean(means[method])) for method in own)
        label = f"{variant}: {family}" if variant else family
        right.plot(*np.array(points).T, marker="o", linestyle=":", label=label)
    right.set(xlabel="right person first, A1 (lower: better hidden)", ylabel="mean Dice", xlim=(0, 1.05))
    right.legend()
    figure.savefig(path, dpi=80, metadata={"Software": None})
    pyplot.close(figure)
    return True
