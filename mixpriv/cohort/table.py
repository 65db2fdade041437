"""One table of all scans: a row for each, kept in order when several runs or clients add to it."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mixpriv.atomic import make_folder, write_file
from mixpriv.errors import InputError, OutputError, printable

MISSING = "n/a"
"""As in BIDS."""

FIRST = ("scan", "exit_code", "error", "intracranial_ml", "brain_ml")
LAST = ("warnings", "mode", "bundle", "version")


class _Dialect(csv.excel_tab):
    quoting = csv.QUOTE_NONE
    escapechar = "\\"
    lineterminator = "\n"


Row = Mapping[str, str]


def row_of(scan: str, result: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, str]:
    """The row of a scan: what the JSON of its result says, each class in a column.

    Examples
    --------
    >>> row_of("a.nii", {"exit_code": 2, "error": "no brain found"}, {"mode": "none"})["error"]
    'no brain found'
    >>> row_of("a.nii", {"exit_code": 0, "classes": [{"name": "grey matter", "volume_ml": 5.0}]}, {})["grey_matter_ml"]
    '5.000'
    """
    volumes = {column_of(c["name"]): f"{c['volume_ml']:.3f}" for c in result.get("classes", ())}
    whole = {name: result.get(name) for name in ("intracranial_ml", "brain_ml")}
    return {
        "scan": _text(scan),
        "exit_code": str(result["exit_code"]),
        "error": _text(result.get("error", "")),
        **{name: MISSING if volume is None else f"{volume:.1f}" for name, volume in whole.items()},
        **volumes,
        "warnings": _text("; ".join(result.get("warnings", ()))),
        **settings,
    }


def column_of(name: str) -> str:
    """The column of a class."""
    return f"{name.replace(' ', '_')}_ml"


def add_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a table, or make it; a row of the same scan is replaced. Several clients may do it at once.

    Raises
    ------
    InputError
        the file is not such a table.
    OutputError
        it cannot be written.
    """
    make_folder(path.parent)
    with _locked(path.parent):
        merged = {row["scan"]: row for row in (*read_rows(path), *rows)}
        write_file(path, encode_rows([merged[scan] for scan in sorted(merged)]))


def check_table(path: Path) -> None:
    """Refuse, before any work, a file that is not such a table; `InputError`."""
    read_rows(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """All rows of a table; none where there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from None
    rows = list(csv.DictReader(io.StringIO(text), dialect=_Dialect))
    if not text.startswith("\t".join(FIRST[:2])) or any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path}: expected a table of mixpriv, got another file; move it away")
    return rows


def encode_rows(rows: Iterable[Row]) -> bytes:
    """The rows as text: the columns of any of them, n/a where a row has none."""
    rows = list(rows)
    between = dict.fromkeys(name for row in rows for name in row if name not in (*FIRST, *LAST))
    return encode_columns([*FIRST, *between, *LAST], rows)


def encode_columns(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    """Rows as tab-separated text with these columns."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval=MISSING, dialect=_Dialect)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _text(text: str) -> str:
    return printable(text, 1000) or MISSING


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else writes the table meanwhile; the lock goes with the process that holds it."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be opened ({error.strerror})") from None
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
