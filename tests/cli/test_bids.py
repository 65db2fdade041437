"""``mixpriv-bids`` on small datasets: what it finds, how it names results, and that they are valid BIDS."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mixpriv.api import Client
from mixpriv.bundle import Bundle
from mixpriv.cli.bids.main import main
from mixpriv.cohort.bids import validate
from tests.cli.running import Run
from tests.support.phantom import write_scan

SCANS = (
    "sub-01/ses-1/anat/sub-01_ses-1_acq-fast_run-1_T1w",
    "sub-01/ses-1/anat/sub-01_ses-1_acq-fast_run-2_T1w",
    "sub-01/ses-1/anat/sub-01_ses-1_rec-norm_T1w",
    "sub-01/ses-2/anat/sub-01_ses-2_T1w",
    "sub-02/ses-1/anat/sub-02_ses-1_T1w",
)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Several scans of a session, people with unequal sessions, other derivatives inside, a person without a scan."""
    folder = tmp_path / "ds"
    for n, name in enumerate(SCANS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_scan(folder / f"{name}.nii.gz", seed=n)
    other = folder / "derivatives" / "other" / "sub-01" / "anat"
    other.mkdir(parents=True)
    shutil.copy(folder / f"{SCANS[0]}.nii.gz", other / "sub-01_desc-preproc_T1w.nii.gz")
    description = {"Name": "toy", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    (folder / "README.md").write_text("A toy dataset, made by code for tests.\n" * 5)
    (folder / "participants.tsv").write_text("participant_id\tage\tscan\nsub-01\t30\tA\nsub-02\t40\tB\n")
    return folder


@pytest.fixture
def run(bundle: Bundle, in_process: list[Client], capsys: pytest.CaptureFixture[str]) -> Run:
    def bids(*arguments: object) -> tuple[int, str, str]:
        given = list(map(str, arguments))
        code = main([*given, "--bundle", str(bundle.directory), "--skip-bids-validation"])
        out, err = capsys.readouterr()
        return code, out, err

    return bids


def labels_in(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*_dseg.nii.gz"))


class TestParticipant:
    def test_names_keep_all_entities_and_the_validator_finds_no_error(
        self, run: Run, in_process: list[Client], dataset: Path
    ) -> None:
        out = dataset / "derivatives" / "mixpriv"
        code, told, err = run(dataset, out, "participant")
        assert (code, err) == (0, "")
        assert labels_in(out) == [f"{name.removesuffix('_T1w')}_dseg.nii.gz" for name in SCANS]
        assert "5 of 5" in told
        assert len(in_process) == 1
        assert not list(out.rglob(".*.lock"))
        sidecar = json.loads((out / f"{SCANS[3].removesuffix('_T1w')}_dseg.json").read_text())
        assert sidecar["Sources"] == [f"bids:raw:{SCANS[3]}.nii.gz"]
        assert json.loads((out / "dataset_description.json").read_text())["DatasetLinks"] == {"raw": "../.."}
        assert run(dataset, out, "group")[0] == 0
        assert validate(out) == []
        assert validate(dataset) == []

    def test_a_second_run_does_nothing(self, run: Run, in_process: list[Client], dataset: Path, tmp_path: Path) -> None:
        assert run(dataset, tmp_path / "out", "participant")[0] == 0
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
        code, out, err = run(dataset, tmp_path / "out", "participant")
        assert (code, out, err) == (0, "5 of 5 scans were done before\n", "")
        assert len(in_process) == 1  # no second one was opened
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before

    def test_options_of_a_scan_are_heard(
        self, run: Run, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ages: list[float | None] = []
        finish = Client.finish

        def finishing(self: Client, prepared: Any, timings: Any, warn: Any, keep: Any, age: float | None = None) -> Any:
            ages.append(age)
            return finish(self, prepared, timings, warn, keep, age)

        monkeypatch.setattr(Client, "finish", finishing)
        code = run(dataset, tmp_path / "out", "participant", "--participant-label", "02", "--confidence", "--age", 40)[
            0
        ]
        assert (code, ages) == (0, [40.0])
        assert [path.name for path in tmp_path.rglob("*_confidence.nii.gz")] == ["sub-02_ses-1_confidence.nii.gz"]
        assert "*_confidence.nii.gz" in (tmp_path / "out" / ".bidsignore").read_text()

    @pytest.mark.parametrize("labels", [("02",), ("sub-02",), ("02", "sub-02")])
    def test_labels_with_and_without_prefix(self, run: Run, dataset: Path, tmp_path: Path, labels: tuple[str]) -> None:
        assert run(dataset, tmp_path / "out", "participant", "--participant-label", *labels)[0] == 0
        assert labels_in(tmp_path / "out") == ["sub-02/ses-1/anat/sub-02_ses-1_dseg.nii.gz"]

    def test_sessions(self, run: Run, dataset: Path, tmp_path: Path) -> None:
        assert run(dataset, tmp_path / "out", "participant", "--session_label", "ses-2")[0] == 0
        assert labels_in(tmp_path / "out") == ["sub-01/ses-2/anat/sub-01_ses-2_dseg.nii.gz"]

    def test_a_broken_scan_is_told_and_the_rest_is_done(self, run: Run, dataset: Path, tmp_path: Path) -> None:
        (dataset / f"{SCANS[1]}.nii.gz").write_text("broken")
        code, _, err = run(dataset, tmp_path / "out", "participant", "--work-dir", tmp_path / "work")
        assert code == 2
        assert "1 of 5 scans failed" in err
        assert len(labels_in(tmp_path / "out")) == 4
        assert list((tmp_path / "work").iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--participant-label", "03"), "no sub-03 in this dataset of 2 people"),
            (("--session-label", "9"), "expected *_T1w scans of sub-01, sub-02 in ses-9, got none"),
        ],
    )
    def test_nobody(self, run: Run, dataset: Path, tmp_path: Path, arguments: tuple[str], message: str) -> None:
        code, out, err = run(dataset, tmp_path / "out", "participant", *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert message in err
        assert not (tmp_path / "out").exists()

    def test_another_bundle_needs_another_folder(self, run: Run, dataset: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        assert run(dataset, out, "participant", "--participant-label", "02")[0] == 0
        sidecar = next(out.rglob("*_dseg.json"))
        told = json.loads(sidecar.read_text())
        told["Mixpriv"] |= {"Bundle": {"Name": "other"}, "SettingsSHA256": "other"}
        sidecar.write_text(json.dumps(told))
        code, _, err = run(dataset, out, "participant", "--participant-label", "02")
        assert code == 2
        assert "made with bundle other; expected another folder for bundle toy-t1" in err


class TestDataset:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "dataset_description.json: no such file, which BIDS asks for"),
            ("{", "expected a JSON file"),
            ("[]", "expected Name and BIDSVersion"),
        ],
    )
    def test_without_a_description(
        self, dataset: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (dataset / "dataset_description.json").unlink()
        if content is not None:
            (dataset / "dataset_description.json").write_text(content)
        assert main([str(dataset), str(dataset / "out"), "participant"]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert message in err

    def test_results_go_elsewhere(self, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(dataset), str(dataset / "."), "participant"]) == 2
        assert "expected another folder for results than the dataset's" in capsys.readouterr().err

    def test_the_validator_is_heard(self, dataset: Path) -> None:
        (dataset / "sub-02" / "ses-1" / "anat" / "mine.txt").touch()
        assert any("NOT_INCLUDED: 1 files, first /sub-02/" in line for line in validate(dataset))

    def test_version(self) -> None:
        told = subprocess.run([sys.executable, "-m", "mixpriv.cli.bids", "--version"], capture_output=True, text=True)
        assert told.stdout.startswith("mixpriv-bids ")


class TestGroup:
    def test_table_is_joined_with_the_people(self, run: Run, dataset: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        assert run(dataset, out, "participant", "--participant-label", "01", "--session-label", "1")[0] == 0
        assert run(dataset, out, "group")[0] == 0
        header, *rows = [line.split("\t") for line in (out / "group_T1w.tsv").read_text().splitlines()]
        assert header[:6] == ["participant_id", "session_id", "scan", "result", "age", "participant_scan"]
        assert [row[3] for row in rows] == ["done", "done", "done", "missing", "missing"]
        assert {row[4] for row in rows} == {"30", "40"}
        assert {len(row) for row in rows} == {len(header)}
        assert set(json.loads((out / "group_T1w.json").read_text())) == set(header)
        page = (out / "group_T1w.html").read_text()
        assert "5 scans" in page
        assert "http" not in page.replace('http-equiv="Content', "")

    def test_without_results(self, run: Run, dataset: Path, tmp_path: Path) -> None:
        code, _, err = run(dataset, tmp_path / "out", "group")
        assert code == 2
        assert "run the level participant first" in err
