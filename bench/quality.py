"""Values of the checks before sending on good heads and on wrong inputs: ``python bench/quality.py DATA -o PAGE``.

The values of all inputs are kept in a file beside the page, so that limits can be changed and the page written again
without measuring (``--values FILE``). Limits are chosen by hand outside the range of the people of half A, and are
those of the bundle; the page tells what they do on half B.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from quality_inputs import Input, good_heads, made_wrong, painted, phantoms, real_wrong

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.extraction import conform, extract_brain, load_extractor
from mixpriv.imaging.preprocess.intensities import with_air_at_zero
from mixpriv.provenance import commit
from mixpriv.quality.atlas import Atlas
from mixpriv.quality.before import MEASURES, measured
from mixpriv.quality.check import Check, judge

Row = dict[str, Any]


def inputs(data: Path, more: Sequence[Path], each: int) -> Iterator[Input]:
    """All inputs; wrong ones are made of every ``each``-th good head."""
    good = list(good_heads(data, list(more)))
    yield from good
    yield from phantoms()
    yield from real_wrong(data)
    for head in good[::each]:
        yield from made_wrong(head)
    yield from painted(data)


def values_of(one: Input, bundle: Bundle, extractor: Any, atlas: Atlas) -> Iterator[Row]:
    """The values of an input with the brain that is found in it and, if it can be known, with the right one."""
    for mask, source in (("own", one.load), ("right", one.brain_of)):
        if source is None:
            continue
        row: Row = {"name": one.name, "person": one.person, "wrong": one.wrong, "mask": mask}
        try:
            scan = one.load()
            brain = extract_brain(with_air_at_zero(source()), extractor, bundle)
            conformed = conform(with_air_at_zero(scan), brain, bundle)
            row["values"] = {k: round(v, 4) for k, v in measured(scan, conformed, atlas).items()}
        except InputError as error:
            row["error"] = str(error).partition(": ")[2]
        yield row


def half(person: str) -> str:
    """A for the people on whom limits are chosen, B for those on whom they are reported."""
    return "AB"[sum(person.encode()) % 2]


def judged(row: Row, bundle: Bundle) -> list[Check]:
    """What the bundle's limits say of the values of an input."""
    values, limits = row["values"], bundle.quality
    return [judge(name, values[name], limits[name], MEASURES[name]) for name in MEASURES if name in limits]


def outcome(row: Row, bundle: Bundle) -> str:
    """The worst outcome of an input; "no brain" if none was found."""
    if "values" not in row:
        return "no brain"
    found = {check.outcome for check in judged(row, bundle)}
    return next(each for each in ("refuse", "warn", "pass") if each in found)


def page(rows: list[Row], bundle: Bundle) -> str:
    """The page of results."""
    good = [row for row in rows if not row["wrong"] and not row["name"].startswith("painted")]
    wrong = [row for row in rows if row["wrong"]]
    told = dict(zip(("pass", "warn", "refuse", "no brain"), _counts(good, bundle), strict=True))
    stopped, silent = told["refuse"] + told["no brain"], sum(outcome(row, bundle) == "pass" for row in wrong)
    kinds = ("input", "half", "mask", "count", "no brain", "refused", "warned", "passed")
    lines = [
        "---",
        "question: Do the checks before sending let good heads through and stop what is none?",
        f"answer: Of {len(good)} good heads {stopped} are refused and {told['warn']} warned of; "
        f"of {len(wrong)} wrong inputs {silent} pass in silence.",
        f"bundle: {bundle.name} {bundle.version}",
        f"commit: {commit()}",
        "status: current",
        "---",
        "",
        "# Checks before sending: values and limits",
        "",
        "The limits lie outside the range of the people of half A; half B is other people. All heads were looked at",
        "while the checks were designed, so B is no untouched test. See [the checks](../../quality.md).",
        "",
        "## Good heads",
        "",
        "Real T1-weighted heads of adults, each person once, many of them skull-stripped (oasis, ds002748).",
        "",
        *_table(("half", "heads", "passed", "warned", "refused", "no brain"), _good_rows(good, bundle)),
        "",
        "## Wrong inputs",
        "",
        "`own`: with the brain that the extractor found. `right`: with the brain of the scan that it was made of.",
        "",
        *_table(kinds, _wrong_rows(wrong, bundle)),
        "",
        "Those that passed:",
        "",
        *[f"- {row['name']} ({row['mask']})" for row in wrong if outcome(row, bundle) == "pass"],
        "",
        "## Limits",
        "",
        "Ranges of the good heads, and how many of the wrong inputs each check by itself refuses and warns of.",
        "",
        *_table(("check", "unit", "A", "B", "warn", "refuse", "refused", "warned"), _limit_rows(wrong, good, bundle)),
        "",
        "## Each head",
        "",
        *_table(("head", "half", "outcome", *bundle.quality), _head_rows(good, bundle)),
        "",
        "Command: `python bench/quality.py DATA --values FILE -o PAGE`",
    ]
    return "\n".join(lines) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (heads, ["---"] * len(heads), *rows)]


def _counts(rows: list[Row], bundle: Bundle) -> list[int]:
    """How many passed, were warned of, refused, and had no brain."""
    found = [outcome(row, bundle) for row in rows]
    return [found.count(name) for name in ("pass", "warn", "refuse", "no brain")]


def _good_rows(good: list[Row], bundle: Bundle) -> Iterator[list[object]]:
    for side in ("A", "B", "A and B"):
        some = [row for row in good if half(row["person"]) in side]
        yield [side, len(some), *_counts(some, bundle)]


def _wrong_rows(rows: list[Row], bundle: Bundle) -> Iterator[list[object]]:
    kinds = {(row["wrong"], half(row["person"]), row["mask"]) for row in rows}
    for kind in sorted(kinds):
        some = [row for row in rows if (row["wrong"], half(row["person"]), row["mask"]) == kind]
        yield [*kind, len(some), *reversed(_counts(some, bundle))]


def _limit_rows(wrong: list[Row], good: list[Row], bundle: Bundle) -> Iterator[list[object]]:
    for name, limit in bundle.quality.items():
        if name not in MEASURES:
            continue
        ranges = []
        for side in "AB":
            values = [r["values"][name] for r in good if half(r["person"]) == side and "values" in r]
            ranges.append(f"{min(values):.3g} to {max(values):.3g}")
        failed = [c.outcome for r in wrong if "values" in r for c in judged(r, bundle) if c.name == name]
        warn, refuse = ((limit.warn_below, limit.warn_above), (limit.refuse_below, limit.refuse_above))
        yield [
            name,
            MEASURES[name].unit,
            *ranges,
            _ends(warn),
            _ends(refuse),
            failed.count("refuse"),
            failed.count("warn"),
        ]


def _ends(ends: tuple[float | None, float | None]) -> str:
    below, above = ends
    told = [f"below {below:g}" if below is not None else "", f"above {above:g}" if above is not None else ""]
    return ", ".join(filter(None, told)) or "never"


def _head_rows(good: list[Row], bundle: Bundle) -> Iterator[list[object]]:
    for row in sorted(good, key=lambda row: row["name"]):
        values = [f"{row['values'][name]:.3g}" if "values" in row else "" for name in bundle.quality]
        yield [row["name"], half(row["person"]), outcome(row, bundle), *values]


def main() -> None:
    """Measure, or read what was measured, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of real heads, laid out as MIXPRIV_DATA of the tests")
    parser.add_argument("--more", type=Path, nargs="*", default=[], help="further T1-weighted heads of adults")
    parser.add_argument("--each", type=int, default=7, help="wrong inputs are made of every so many heads")
    parser.add_argument("--bundle", default="brain-t1")
    parser.add_argument("--values", type=Path, required=True, help="values of all inputs: read if there, else written")
    parser.add_argument("-o", "--output", type=Path, help="the page")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    rows: list[Row] = []
    if arguments.values.exists():
        rows = [json.loads(line) for line in arguments.values.read_text().splitlines()]
    known = {row["name"] for row in rows}
    extractor, atlas = load_extractor(bundle), Atlas.of(bundle)
    with arguments.values.open("a") as file:
        for one in inputs(arguments.data, arguments.more, arguments.each):
            if one.name in known:
                continue
            for row in values_of(one, bundle, extractor, atlas):
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(row["name"], row["mask"], row.get("error") or row["values"], file=sys.stderr)
    if arguments.output:
        arguments.output.write_text(page(rows, bundle), encoding="utf-8")


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
