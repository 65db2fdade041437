"""Folders and many scans on one command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mixpriv.api import Client
from mixpriv.cohort.table import read_rows
from tests.cli.running import Run
from tests.support.phantom import write_scan


@pytest.fixture
def cohort(folder: Path) -> Path:
    for n, name in enumerate(("a/head.nii.gz", "b/head.nii.gz", "b/c/other.nii")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_scan(folder / name, seed=n)
    (folder / "b" / "broken.nii.gz").write_text("no scan")
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_tree(run_as_given: Run, in_process: list[Client], cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    code, told, err = run_as_given(cohort, "-o", out)
    assert code == 2
    results = ["a/head_dseg", "b/c/other_dseg", "b/head_dseg"]
    assert files(out) == sorted(
        [*(f"{r}{end}" for r in results for end in (".nii.gz", ".json", ".tsv")), "volumes.tsv"]
    )
    assert [row["scan"] for row in read_rows(out / "volumes.tsv")] == [
        "a/head.nii.gz", "b/broken.nii.gz", "b/c/other.nii", "b/head.nii.gz"]  # fmt: skip
    assert [row["exit_code"] for row in read_rows(out / "volumes.tsv")] == ["0", "2", "0", "0"]
    assert "1 of 4 scans failed" in err
    assert "(4 of 4, 0:" in told
    assert len(in_process) == 1


@pytest.mark.parametrize("output", [(), ("-o", "out")])
def test_a_second_run_takes_no_result_for_a_scan(
    run_as_given: Run, cohort: Path, output: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cohort)
    (cohort / "b" / "broken.nii.gz").unlink()
    assert run_as_given(".", *output)[0] == 0
    before = files(cohort)
    code, out, _ = run_as_given(".", *output, "--json", "--force")
    assert (code, len(json.loads(out)["scans"])) == (0, 3)
    assert files(cohort) == before


def test_a_pattern_of_the_shell_takes_no_result_for_a_scan(
    run_as_given: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for n in range(2):
        write_scan(folder / f"s{n}.nii.gz", seed=n)
    assert run_as_given("s0.nii.gz", "s1.nii.gz")[0] == 0
    given = [path for path in files(folder) if path.endswith(".nii.gz")]
    code, out, err = run_as_given(*given, "--json")
    assert (code, len(given), len(json.loads(out)["scans"])) == (2, 4, 2)
    assert "2 scans; left out: 2 results of mixpriv" in err
    assert "s0_dseg.nii.gz: output exists; give --force" in err


def test_of_two_scans_with_one_output_the_second_is_refused(run_as_given: Run, folder: Path, tmp_path: Path) -> None:
    for name in ("x.nii", "x.nii.gz", "y.nii"):
        write_scan(folder / name)
    code, out, err = run_as_given(folder, "-o", tmp_path / "out", "--json")
    assert code == 2
    assert [result["exit_code"] for result in json.loads(out)["scans"]] == [0, 2, 0]
    assert "x.nii.gz: " in err
    assert "two outputs would be written there" in err


def test_one_scan_in_a_folder(run_as_given: Run, scan: Path, tmp_path: Path) -> None:
    assert run_as_given(scan.parent, "-o", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == ["head_dseg.json", "head_dseg.nii.gz", "head_dseg.tsv", "volumes.tsv"]


def test_an_output_that_is_no_folder_is_refused(run_as_given: Run, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in ("file", "out.nii.gz"):
        code, _, err = run_as_given(cohort, "-o", tmp_path / output)
        assert (code, len(err.splitlines())) == (2, 1)
        assert f"{output}: expected a folder as the output of several scans" in err


def test_a_table_that_is_not_ours_is_kept(run_as_given: Run, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "volumes.tsv").write_text("mine")
    code, _, err = run_as_given(scan.parent, "-o", tmp_path)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "volumes.tsv: expected a table of mixpriv" in err
    assert os.listdir(scan.parent) == ["head.nii.gz"]
