"""How well the brain is found in real heads: what is missed of it, and what else is taken for it."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.extraction import Brain
from mixpriv.imaging.preprocess.intensities import with_air_at_zero
from mixpriv.imaging.resample import to_scan
from mixpriv.imaging.volume import Volume, load_volume
from mixpriv.provenance import hardware

FAR_MM = 10.0

Finder = Callable[[Volume], Brain]
"""Finds the brain in the first modality of a scan whose air is 0."""


@dataclass(frozen=True)
class HeadCase:
    """A line of the list of heads. ``reference``: a mask or a label map, ``reference_is``: where that comes from.

    ``other``: the mask that another tool made, or None; ``other_s``: the seconds it took.
    """

    source: str
    name: str
    scan: Path
    reference: Path
    reference_is: str
    other: Path | None
    other_s: float | None


@dataclass(frozen=True)
class Found:
    """What a mask missed of the reference, percent, and how much of it lies far from the reference, ml and mm."""

    missed_percent: float
    beyond_ml: float
    farthest_mm: float


@dataclass(frozen=True)
class Outcome:
    """Of a head: the mask found, or why it was refused; the other tool's mask."""

    case: HeadCase
    found: Found | None
    refusal: str
    seconds: float
    other: Found | None


def read_cases(path: Path, data: Path) -> list[HeadCase]:
    """The list of heads: tab-separated, a line for each, with the fields of `HeadCase`; paths are within ``data``.

    Raises
    ------
    InputError
        there is no such file, or its columns are others.
    """
    if not path.is_file():
        raise InputError(f"{path.name}: no such file")
    columns = [field.name for field in fields(HeadCase)]
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        if rows.fieldnames != columns:
            raise InputError(f"{path.name}: expected the columns {', '.join(columns)}")
        return [
            HeadCase(
                row["source"], row["name"], data / row["scan"], data / row["reference"], row["reference_is"],
                data / row["other"] if row["other"] else None, float(row["other_s"]) if row["other_s"] else None,
            )
            for row in rows
        ]  # fmt: skip


def compare(mask: NDArray[np.bool_], reference: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> Found:
    """Compare two masks (I, J, K) of a scan.

    Examples
    --------
    >>> reference = np.zeros((30, 9, 9), bool)
    >>> reference[:10] = True
    >>> found = compare(np.roll(reference, 12, 0), reference, np.ones(3))
    >>> found.missed_percent, found.farthest_mm
    (100.0, 12.0)
    """
    missed = 100 * np.count_nonzero(reference & ~mask) / np.count_nonzero(reference)
    away = ndimage.distance_transform_edt(~reference, sampling=spacing_mm)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    beyond = np.count_nonzero(mask & (away > FAR_MM)) * voxel_ml
    return Found(float(missed), float(beyond), float(away[mask].max(initial=0.0)))


def try_heads(cases: Sequence[HeadCase], find: Finder) -> Iterator[Outcome]:
    """Find the brain in each head and compare."""
    for case in cases:
        scan = load_volume(case.scan)
        reference = _mask(case.reference, scan)
        other = None if case.other is None else compare(_mask(case.other, scan), reference, scan.spacing_mm)
        begin = time.process_time()
        try:
            brain = find(with_air_at_zero(scan))
        except InputError as error:
            yield Outcome(case, None, str(error).removeprefix(f"{scan.name}: "), time.process_time() - begin, other)
            continue
        seconds = time.process_time() - begin
        shares = np.stack([1 - brain.probability, brain.probability]).astype(np.float32)
        mask = to_scan(shares, brain.grid, scan) > 0
        yield Outcome(case, compare(mask, reference, scan.spacing_mm), "", seconds, other)


def _mask(path: Path, scan: Volume) -> NDArray[np.bool_]:
    mask = load_volume(path)
    if mask.shape != scan.shape:
        raise InputError(f"{path.name}: expected the scan's size {scan.shape}, got {mask.shape}")
    inside = mask.voxels > 0
    if not inside.any():
        raise InputError(f"{path.name}: expected a mask, got one without a voxel")
    return np.asarray(inside)


def page(outcomes: Sequence[Outcome], bundle: Bundle, other: str, commit: str, command: str) -> str:
    """The page with a table of sources and one of heads; ``other``: the name of the other tool."""
    sources = list(dict.fromkeys((o.case.source, o.case.reference_is) for o in outcomes))
    found = [o for o in outcomes if o.found is not None]
    far = [o for o in found if o.found is not None and o.found.beyond_ml > 0]
    missed = float(np.median([o.found.missed_percent for o in found if o.found is not None])) if found else float("nan")
    head = [
        "---",
        "question: Is what the extraction finds in real heads the brain, and all of it?",
        f"answer: The median of {len(outcomes)} heads of {len({s for s, _ in sources})} sources misses {missed:.1f} %. "
        f"In {len(far)} something lies more than {FAR_MM:.0f} mm outside. Refused: {len(outcomes) - len(found)}.",
        f"bundle: {bundle.name} {bundle.version}",
        f"commit: {commit}",
        "status: current",
        "---",
        "",
        "# Brain extraction on real heads",
        "",
        "Missed: percent of the reference that is outside the mask. Far: ml of the mask more than "
        f"{FAR_MM:.0f} mm outside the reference. Each with that of {other}, where it made a mask.",
        "",
    ]
    lines = [
        "| source | reference | heads | refused | missed, median (largest) | far, largest "
        f"| {other}: missed | {other}: far | seconds, median | {other}: seconds |",
        f"|{'---|' * 10}",
    ]
    for source, reference in sources:
        lines.append(_row_of_source(source, reference, [o for o in outcomes if o.case.source == source]))
    lines += [
        "",
        f"| source | head | missed | far | farthest, mm | {other}: missed | {other}: far | refused because |",
        f"|{'---|' * 8}",
    ]
    lines += [_row_of_head(outcome) for outcome in outcomes]
    tail = [
        "",
        f"Seconds are processor time of one thread, {hardware()}.",
        "",
        f"Made at commit {commit} by `{command}`.",
        "",
    ]
    return "\n".join(head + lines + tail)


def _row_of_source(source: str, reference: str, outcomes: Sequence[Outcome]) -> str:
    ours = [o.found for o in outcomes if o.found is not None]
    others = [o.other for o in outcomes if o.other is not None]
    other_s = [o.case.other_s for o in outcomes if o.case.other_s is not None]
    cells = [
        source, reference, str(len(outcomes)), str(len(outcomes) - len(ours)),
        _spread([f.missed_percent for f in ours]), _largest([f.beyond_ml for f in ours]),
        _spread([f.missed_percent for f in others]), _largest([f.beyond_ml for f in others]),
        f"{np.median([o.seconds for o in outcomes]):.2f}", f"{np.median(other_s):.1f}" if other_s else "",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _row_of_head(outcome: Outcome) -> str:
    ours, other = outcome.found, outcome.other
    cells = [outcome.case.source, outcome.case.name]
    cells += ["", "", ""] if ours is None else [*_cells(ours), f"{ours.farthest_mm:.0f}"]
    cells += ["", ""] if other is None else _cells(other)
    return f"| {' | '.join([*cells, outcome.refusal])} |"


def _cells(found: Found) -> list[str]:
    return [f"{found.missed_percent:.1f} %", f"{found.beyond_ml:.1f} ml"]


def _spread(percent: Sequence[float]) -> str:
    return f"{np.median(percent):.1f} % ({max(percent):.1f} %)" if percent else ""


def _largest(millilitres: Sequence[float]) -> str:
    return f"{max(millilitres):.1f} ml" if millilitres else ""
