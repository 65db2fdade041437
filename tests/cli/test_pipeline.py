"""Several scans: the next is prepared while one is at the server, and nothing that leaves a trace depends on it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.cli.client.main import main
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.imaging import inputs
from tests.cli.running import Run
from tests.support.phantom import write_scan


@pytest.fixture
def scans(folder: Path) -> list[Path]:
    return [write_scan(folder / f"s{n}.nii.gz", seed=n) for n in range(4)]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans whose loading has begun."""
    names: list[str] = []
    load = inputs.load_volume

    def load_and_note(path: Path, *how: Any) -> Any:
        names.append(path.name)
        return load(path, *how)

    monkeypatch.setattr(inputs, "load_volume", load_and_note)
    return names


def test_same_bytes_as_one_by_one(run: Run, scans: list[Path], tmp_path: Path) -> None:
    made = {}
    for name, options in (("ahead", ()), ("one", ("--one-by-one",))):
        (tmp_path / name).mkdir()
        arguments = ("-o", tmp_path / name, "--save-wire", tmp_path / name / "wire", "--references", 2, *options)
        assert run(*scans, *arguments)[0] == 0
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        made[name] = {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files}
    assert len(made["one"]) == 4 * 8 + 1
    assert made["ahead"] == made["one"]


def test_the_next_scan_and_no_other_is_prepared_meanwhile(
    run: Run, scans: list[Path], loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_server: list[list[str]] = []
    segment = InProcessSegmenter.segment

    def waiting(self: InProcessSegmenter, mixture: np.ndarray) -> np.ndarray:
        expected = min(len(at_server) + 2, len(scans))
        deadline = time.monotonic() + 10
        while len(loaded) < expected and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # for one that should not begin
        at_server.append(list(loaded))
        return segment(self, mixture)

    monkeypatch.setattr(InProcessSegmenter, "segment", waiting)
    assert run(*scans)[0] == 0
    names = [scan.name for scan in scans]
    assert at_server == [names[:2], names[:3], names, names]


def test_one_by_one_prepares_nothing(
    run: Run, scans: list[Path], loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_server: list[int] = []
    segment = InProcessSegmenter.segment

    def noting(self: InProcessSegmenter, mixture: np.ndarray) -> np.ndarray:
        at_server.append(len(loaded))
        return segment(self, mixture)

    monkeypatch.setattr(InProcessSegmenter, "segment", noting)
    assert run(*scans[:3], "--one-by-one")[0] == 0
    assert at_server == [1, 2, 3]


def test_results_stay_in_order_and_failures_at_their_place(run: Run, scans: list[Path], folder: Path) -> None:
    (folder / "bad.nii.gz").write_text("no scan")
    given = [scans[0], folder / "bad.nii.gz", scans[1], folder / "missing.nii", scans[2]]
    code, out, _ = run(*given, "--json")
    results = json.loads(out)["scans"]
    assert code == 2
    assert [result["scan"] for result in results] == list(map(str, given))
    assert [result["exit_code"] for result in results] == [0, 2, 0, 2, 0]


def test_a_failure_at_the_server_is_that_scans_alone(
    run: Run, scans: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixpriv.errors import ServerBusyError

    segment, asked = InProcessSegmenter.segment, []

    def busy_once(self: InProcessSegmenter, mixture: np.ndarray) -> np.ndarray:
        asked.append(1)
        if len(asked) == 2:
            raise ServerBusyError("server is busy")
        return segment(self, mixture)

    monkeypatch.setattr(InProcessSegmenter, "segment", busy_once)
    code, out, _ = run(*scans, "--json")
    assert code == 3
    assert [result["exit_code"] for result in json.loads(out)["scans"]] == [0, 3, 0, 0]
    assert not scans[1].with_name("s1_dseg.nii.gz").exists()


def test_ctrl_c_ends_both(run: Run, scans: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: InProcessSegmenter, mixture: np.ndarray) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        raise AssertionError("not interrupted")

    monkeypatch.setattr(InProcessSegmenter, "segment", interrupted)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(*scans) == (130, "", "mixpriv-client: interrupted\n")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert [t for t in threading.enumerate() if "ThreadPool" in t.name] == []
    assert {path.name for path in folder.iterdir()} == {scan.name for scan in scans}


def test_references_of_the_bank_are_spent_in_order(
    run: Run, bundle: Bundle, scans: list[Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nibabel as nib

    from tests.support.phantom import brain_scan

    for seed in (10, 11):
        image = write_scan(folder / f"r{seed}.nii.gz", person=seed)
        nib.save(nib.Nifti1Image(brain_scan(person=seed)[1], nib.load(image).affine), folder / f"l{seed}.nii.gz")
        where = ["--bundle", str(bundle.directory)]
        assert main(["references", "add", str(image), str(folder / f"l{seed}.nii.gz"), *where]) == 0
    capsys.readouterr()
    code, out, _ = run(*scans[:3], "--references-from", "bank", "--json")
    assert code == 2
    assert [result["exit_code"] for result in json.loads(out)["scans"]] == [0, 0, 2]
