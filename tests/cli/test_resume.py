"""``--resume``: what is done and whole is skipped, by content and settings, and clients share a cohort."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixpriv.api import Client
from mixpriv.cli.client import jobs
from mixpriv.cohort.claim import claim
from mixpriv.cohort.record import scan_digest
from mixpriv.engine.in_process import InProcessSegmenter
from tests.cli.running import IN_PROCESS, Run, started
from tests.support.dicomfile import images, save
from tests.support.phantom import write_scan

Segment = Callable[..., dict[str, str]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def segment(run_as_given: Run, folder: Path, out: Path) -> Segment:
    """Segment a folder of two scans with ``--resume``; says of each scan what was done."""
    for n in range(2):
        write_scan(folder / f"s{n}.nii.gz", seed=n)

    def run(*options: object) -> dict[str, str]:
        told: list[dict[str, Any]] = json.loads(run_as_given(folder, "-o", out, "--resume", "--json", *options)[1])[
            "scans"
        ]
        return {Path(r["scan"]).name: r.get("error") or ("skipped" if "skipped" in r else "done") for r in told}

    return run


DONE, SKIPPED = {"s0.nii.gz": "done", "s1.nii.gz": "done"}, {"s0.nii.gz": "skipped", "s1.nii.gz": "skipped"}


def test_a_second_run_does_nothing(segment: Segment, in_process: list[Client], out: Path) -> None:
    assert segment() == DONE
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert segment() == SKIPPED
    assert len(in_process) == 1  # no networks were loaded again
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_what_is_skipped_is_told_as_it_was(segment: Segment, run_as_given: Run, folder: Path, out: Path) -> None:
    first = json.loads(run_as_given(folder, "-o", out, "--json")[1])["scans"]
    second = json.loads(run_as_given(folder, "-o", out, "--resume", "--json")[1])["scans"]
    for one, two in zip(first, second, strict=True):
        assert one.keys() - two.keys() == {"seconds"}
        assert {name: two[name] for name in one if name != "seconds"} == {
            n: v for n, v in one.items() if n != "seconds"
        }


@pytest.mark.parametrize("lost", ["s0_dseg.nii.gz", "s0_dseg.tsv", "s0_dseg.json"])
def test_what_is_not_whole_is_done_again(segment: Segment, out: Path, lost: str) -> None:
    segment()
    (out / lost).write_bytes((out / lost).read_bytes()[:-9])
    if lost.endswith(".json"):
        (out / "s0_dseg.json").unlink()
        (out / "s0_dseg.tsv").unlink()
        (out / "s0_dseg.nii.gz").unlink()
    assert segment() == {"s0.nii.gz": "done", "s1.nii.gz": "skipped"}
    assert segment() == SKIPPED


def test_an_output_that_is_not_there_is_made(segment: Segment, out: Path) -> None:
    assert segment("--confidence") == DONE
    (out / "s0_confidence.nii.gz").unlink()
    assert segment("--confidence") == {"s0.nii.gz": "done", "s1.nii.gz": "skipped"}
    assert (out / "s0_confidence.nii.gz").is_file()


def test_results_within_a_dicom_scan_are_not_its_content(tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
    scan = save(images(np.zeros((16, 16, 16), np.int16)), tmp_path / "scan")
    before = scan_digest(scan)
    (scan / "out").mkdir()
    for name in ("scan_dseg.dcm", "scan_dseg_sr.dcm", "scan_dseg.json"):
        (scan / "out" / name).write_bytes(bytes(128) + b"DICM")
    (scan / "out" / ".scan_dseg.dcm.lock").touch()
    assert scan_digest(scan) == before
    (scan / "more").write_bytes(bytes(128) + b"DICM")
    assert scan_digest(scan) != before


def test_both_files_of_a_pair_are_its_content_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("scan[1].hdr", "scan[1].img", "scan[1].txt"):
        (tmp_path / name).write_text("one")
    before = scan_digest(tmp_path / "scan[1].hdr")
    (tmp_path / "scan[1].txt").write_text("two")
    assert scan_digest(tmp_path / "scan[1].hdr") == before
    (tmp_path / "scan[1].img").write_text("two")
    assert scan_digest(tmp_path / "scan[1].hdr") != before


def test_another_content_or_other_settings_are_another_result(segment: Segment, folder: Path) -> None:
    segment()
    write_scan(folder / "s1.nii.gz", seed=7)
    assert segment() == {"s0.nii.gz": "skipped", "s1.nii.gz": "done"}
    assert segment("--mode", "mixup") == DONE
    assert segment("--mode", "mixup") == SKIPPED
    assert segment("--mode", "mixup", "--force") == DONE


def test_a_file_that_mixpriv_did_not_make_is_kept(segment: Segment, out: Path) -> None:
    out.mkdir()
    (out / "s0_dseg.nii.gz").write_bytes(b"mine")
    told = segment()
    assert "output exists and tells not how it was made; give --force" in told["s0.nii.gz"]
    assert told["s1.nii.gz"] == "done"
    assert (out / "s0_dseg.nii.gz").read_bytes() == b"mine"


def test_a_scan_of_another_client_is_left_to_it(segment: Segment, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And done here if the other leaves it undone."""
    out.mkdir()
    held = claim(out / ".s0_dseg.nii.gz.lock")
    assert held is not None
    order: list[int] = []
    network = InProcessSegmenter.segment

    def segmenting(self: InProcessSegmenter, mixture: Any) -> Any:
        order.append(len(list(out.glob("*_dseg.nii.gz"))))
        return network(self, mixture)

    monkeypatch.setattr(InProcessSegmenter, "segment", segmenting)
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: held.release())
    assert segment() == DONE
    assert order == [0, 1]
    assert not list(out.glob(".*"))


def test_a_lock_goes_with_a_client_that_is_killed(bundle, folder: Path, out: Path, run_as_given: Run) -> None:
    write_scan(folder / "s.nii.gz")
    stay = (
        IN_PROCESS
        + "\nimport time; InProcessSegmenter.segment = lambda *a: (print('now', flush=True), time.sleep(60))\n"
    )
    with started("segment", folder, "-o", out, "--resume", "--bundle", bundle.directory, first=stay) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "now\n"
        assert claim(out / ".s_dseg.nii.gz.lock") is None
        client.kill()
        client.communicate()
    assert run_as_given(folder, "-o", out, "--resume")[0] == 0
    assert sorted(path.name for path in out.iterdir()) == ["s_dseg.json", "s_dseg.nii.gz", "s_dseg.tsv", "volumes.tsv"]
