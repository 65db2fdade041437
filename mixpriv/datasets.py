"""Labelled scans to measure on: BIDS folders of heads, Medical Segmentation Decathlon folders of crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mixpriv.bundle import Bundle
from mixpriv.errors import InputError


@dataclass(frozen=True)
class Case:
    """A labelled scan. Visits of one person share ``subject``."""

    subject: str
    name: str
    scan: Path
    labels: Path


def split(names: Sequence[str], every: int) -> tuple[list[str], list[str]]:
    """Training names and held-out names: every ``every``-th of the sorted names is held out."""
    ordered = sorted(names)
    held_out = ordered[every - 1 :: every]
    return sorted(set(ordered) - set(held_out)), held_out


LABELS, STRUCTURES = "dseg", "desc-structures_dseg"
"""How the name of a head's label map ends: with a few tissues, or with structures in FreeSurfer's numbers."""


def kind_of(bundle: Bundle) -> str:
    """Which of these label maps has the labels of a bundle."""
    return LABELS if bundle.labels is None else STRUCTURES


def labels_beside(scan: Path, kind: str) -> Path:
    """The label map of a ``_T1w.nii.gz``, which may not be there."""
    return scan.with_name(scan.name.replace("_T1w.", f"_{kind}."))


def find_heads(folder: Path, subjects: Sequence[str] = (), kind: str = LABELS) -> list[Case]:
    """All ``sub-*/**/*_T1w.nii.gz`` with a label map of a kind beside it, of the named subjects or of all.

    Raises
    ------
    InputError
        no such case, or a named subject is missing.
    """
    cases = []
    for scan in sorted(folder.glob("sub-*/**/*_T1w.nii.gz")):
        labels = labels_beside(scan, kind)
        subject = scan.name.split("_")[0]
        if labels.is_file() and (not subjects or subject in subjects):
            cases.append(Case(subject, scan.name.removesuffix("_T1w.nii.gz"), scan, labels))
    missing = set(subjects) - {case.subject for case in cases}
    if missing or not cases:
        raise InputError(
            f"{folder}: expected labelled T1w scans of {', '.join(sorted(missing)) or 'any subject'}, got none"
        )
    return cases


def find_crops(folder: Path, held_out_every: int, subjects: Sequence[str] = ()) -> list[Case]:
    """Named crops of ``imagesTr`` with labels in ``labelsTr``, or every ``held_out_every``-th: those held out.

    Raises
    ------
    InputError
        no such case, or a named one is missing.
    """
    names = [path.name.removesuffix(".nii.gz") for path in (folder / "imagesTr").glob("[!.]*.nii.gz")]
    chosen = list(subjects) or split(names, held_out_every)[1]
    cases = [
        Case(name, name, folder / "imagesTr" / f"{name}.nii.gz", folder / "labelsTr" / f"{name}.nii.gz")
        for name in chosen
    ]
    missing = [case.name for case in cases if not (case.scan.is_file() and case.labels.is_file())]
    if missing or not cases:
        raise InputError(f"{folder}: expected labelled crops {', '.join(missing) or 'in imagesTr'}, got none")
    return cases


def not_measured(folder: Path, held_out_every: int | None, measured: Sequence[Case], kind: str = LABELS) -> list[Case]:
    """Labelled scans of other people than those measured: crops if some are held out by name, else heads."""
    if held_out_every is None:
        everyone = find_heads(folder, kind=kind)
    else:
        names = [path.name.removesuffix(".nii.gz") for path in (folder / "imagesTr").glob("[!.]*.nii.gz")]
        everyone = find_crops(folder, held_out_every, split(names, held_out_every)[0])
    seen = {case.subject for case in measured}
    return [case for case in everyone if case.subject not in seen]
