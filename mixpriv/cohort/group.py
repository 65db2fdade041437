"""All results of a BIDS dataset in one table, joined with what is known of its people, and on one page."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixpriv.atomic import make_folder, write_files
from mixpriv.client.naming import Outputs, derivatives_of
from mixpriv.cohort.bids import scans_of
from mixpriv.cohort.find import Found
from mixpriv.cohort.page import encode_page
from mixpriv.cohort.record import read_record
from mixpriv.cohort.table import MISSING, column_of, encode_columns
from mixpriv.errors import InputError, printable

PARTICIPANTS = "participants.tsv"
_MODALITY = "T1w"
_KEY = "participant_id"

_MEANINGS = {
    _KEY: "Person",
    "session_id": "Session, n/a where there is one without a name",
    "scan": "The scan, in the dataset",
    "result": "done, or missing: not segmented, or it failed",
    "intracranial_ml": "Volume inside the skull as the bundle's networks see it",
    "brain_ml": "Volume of the mask that was taken for brain",
    "warnings": "What the user should know of the scan",
    "failed_checks": "Checks of scan or result that were not passed",
    "mode": "What the server saw",
    "bundle": "The networks",
    "version": "Version of mixpriv",
}


@dataclass(frozen=True)
class Row:
    """What is known of a scan: ``volumes`` in ml by column, ``report`` is a page about it, if there is one."""

    person: str
    session: str
    scan: str
    volumes: dict[str, float] = field(default_factory=dict)
    noted: dict[str, Any] = field(default_factory=dict)
    report: str | None = None

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return bool(self.noted)

    @property
    def failed_checks(self) -> list[str]:
        """Names of checks that were not passed."""
        checks = self.noted.get("Result", {}).get("checks", [])
        return [check["name"] for check in checks if check.get("outcome", "pass") != "pass"]

    @property
    def warnings(self) -> list[str]:
        """What the user was told."""
        return list(self.noted.get("Result", {}).get("warnings", []))

    def cells(self) -> dict[str, str]:
        """The row of the table, without what is known of the person."""
        bundle = self.noted.get("Bundle", {})
        return {
            _KEY: self.person,
            "session_id": self.session or MISSING,
            "scan": self.scan,
            "result": "done" if self.done else "missing",
            **{name: f"{volume:.3f}" for name, volume in self.volumes.items()},
            "warnings": printable("; ".join(self.warnings), 1000) or MISSING,
            "failed_checks": " ".join(self.failed_checks) or MISSING,
            "mode": self.noted.get("Mode", MISSING),
            "bundle": f"{bundle.get('Name')} {bundle.get('Version')}" if bundle else MISSING,
            "version": self.noted.get("Version", MISSING),
        }


def write_group(dataset: Path, out: Path) -> list[Path]:
    """Write ``group_T1w.tsv``, its JSON and ``group_T1w.html``; returns these paths.

    Raises
    ------
    InputError
        there are no results in ``out``, or participants.tsv is no table.
    OutputError
        a file cannot be written.
    """
    rows = [_row(found, dataset, out) for found in scans_of(dataset, [], [], _MODALITY)]
    if not any(row.done for row in rows):
        raise InputError(
            f"{out}: expected results of these {len(rows)} scans, got none; run the level participant first"
        )
    people = read_people(dataset / PARTICIPANTS)
    table, meanings = _joined(rows, people)
    paths = [out / f"group_{_MODALITY}{suffix}" for suffix in (".tsv", ".json", ".html")]
    contents = (table, json.dumps(meanings, indent=2).encode() + b"\n", encode_page(rows))
    make_folder(out)
    write_files(dict(zip(paths, contents, strict=True)))
    return paths


def read_people(path: Path) -> dict[str, dict[str, str]]:
    """What participants.tsv says of each person, by label; nothing where there is no such file.

    Raises
    ------
    InputError
        it is no table with such a column.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: cannot be read as text") from None
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, restval=MISSING))
    if any(_KEY not in row for row in rows):
        raise InputError(f"{path}: expected a column {_KEY}")
    people = {}
    for row in rows:
        label = row[_KEY] if row[_KEY].startswith("sub-") else f"sub-{row[_KEY]}"
        people[label] = {name: value for name, value in row.items() if name and name != _KEY}
    return people


def _row(found: Found, dataset: Path, out: Path) -> Row:
    files = derivatives_of(found.scan, dataset, out)
    noted = read_record(files.sidecar) if files.labels.is_file() else {}
    person, *session = found.below.parts[:-1]
    return Row(
        person=person,
        session=session[0] if session else "",
        scan=(found.below / found.scan.name).as_posix(),
        volumes=_volumes(noted.get("Result", {})),
        noted=noted,
        report=_report(files, out),
    )


def _volumes(result: dict[str, Any]) -> dict[str, float]:
    whole = {name: result[name] for name in ("intracranial_ml", "brain_ml") if result.get(name) is not None}
    return {**whole, **{column_of(c["name"]): c["volume_ml"] for c in result.get("classes", ())}}


def _report(files: Outputs, out: Path) -> str | None:
    """The page about one scan, as seen from the page of all."""
    name = files.sidecar.with_suffix(".html")
    return name.relative_to(out).as_posix() if name.is_file() else None


def _joined(rows: Sequence[Row], people: dict[str, dict[str, str]]) -> tuple[bytes, dict[str, Any]]:
    """The table, and what its columns mean."""
    cells = [row.cells() for row in rows]
    own = list(dict.fromkeys(name for cell in cells for name in cell))
    known = list(dict.fromkeys(name for person in people.values() for name in person))
    renamed = {name: f"participant_{name}" if name in own else name for name in known}
    after = own.index("result") + 1
    columns = [*own[:after], *renamed.values(), *own[after:]]
    for cell, row in zip(cells, rows, strict=True):
        cell |= {renamed[name]: value for name, value in people.get(row.person, {}).items()}
    meanings: dict[str, Any] = {}
    for name in columns:
        if name in renamed.values():
            meanings[name] = {"Description": f"From {PARTICIPANTS}"}
        else:
            meanings[name] = {"Description": _MEANINGS.get(name, "Volume of a class")}
        if name in own and name.endswith("_ml"):
            meanings[name]["Units"] = "mL"
    return encode_columns(columns, cells), meanings
