from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mixpriv.cohort.table import add_rows, check_table, read_rows, row_of
from mixpriv.errors import InputError

HOW = {"mode": "none", "bundle": "toy 1", "version": "0"}


def row(name: str, code: int = 0) -> dict[str, str]:
    classes = [{"name": "grey matter", "volume_ml": 500.25}]
    done = {"brain_ml": 1500.0, "classes": classes, "warnings": ["a\tb", "c"]}
    return row_of(name, {"exit_code": code, **(done if not code else {"error": "no brain"})}, HOW)


def test_rows_are_kept_in_order_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "volumes.tsv"
    add_rows(path, [row("b.nii"), row("c.nii", 2)])
    add_rows(path, [row("a.nii"), row("c.nii")])
    rows = read_rows(path)
    assert [r["scan"] for r in rows] == ["a.nii", "b.nii", "c.nii"]
    assert {r["exit_code"] for r in rows} == {"0"}
    assert rows[0]["grey_matter_ml"] == "500.250"
    assert rows[0]["warnings"] == r"a\tb; c"


def test_what_a_failure_has_not_is_missing(tmp_path: Path) -> None:
    add_rows(tmp_path / "t.tsv", [row("a.nii", 2), row("b.nii")])
    assert read_rows(tmp_path / "t.tsv")[0]["grey_matter_ml"] == "n/a"
    assert all(len(line.split("\t")) == 10 for line in (tmp_path / "t.tsv").read_text().splitlines())


def test_many_clients_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as threads:  # a lock is that of a descriptor: each has its own
        list(threads.map(lambda n: add_rows(tmp_path / "t.tsv", [row(f"{n:02d}.nii")]), range(12)))
    assert len(read_rows(tmp_path / "t.tsv")) == 12


@pytest.mark.parametrize("content", [b"mine", b"\xff\xfe", b"scan\texit_code\n1\t2\t3\n"])
def test_another_file_is_not_touched(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.tsv: expected a table of mixpriv"):
        check_table(tmp_path / "t.tsv")
    with pytest.raises(InputError, match="move it away"):
        add_rows(tmp_path / "t.tsv", [row("a.nii")])
    assert (tmp_path / "t.tsv").read_bytes() == content
