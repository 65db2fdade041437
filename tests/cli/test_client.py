from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv import cuda
from mixpriv.api import Client
from mixpriv.bundle import Bundle
from mixpriv.cli.client.main import main
from mixpriv.client import segmentation
from mixpriv.client.ledger import ledger_path
from mixpriv.client.table import class_volumes
from mixpriv.errors import ServerUnavailableError
from mixpriv.imaging import inputs
from mixpriv.key import key_path
from mixpriv.timing import STAGES
from tests.cli.running import Run
from tests.support.phantom import brain_scan, pair_scan, write_scan
from tests.support.toybundle import PAIR, write_toy_bundle, write_toy_crop_bundle

HEAVY = ("numpy", "nibabel", "grpc", "openvino", "scipy", "rich")


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class TestSegment:
    def test_leaves_labels_and_table_beside_the_scan(self, run: Run, scan: Path, folder: Path) -> None:
        code, out, err = run(scan, "--weight", 0.7)
        assert (code, err) == (0, "")
        assert len(out.splitlines()) == 1
        assert f"{folder}/head_dseg.nii.gz: brain with an intracranial volume of " in out
        assert listing(folder) == {"head.nii.gz", "head_dseg.json", "head_dseg.nii.gz", "head_dseg.tsv"}
        labels, source = nib.load(folder / "head_dseg.nii.gz"), nib.load(scan)
        np.testing.assert_array_equal(labels.affine, source.affine)
        assert labels.shape == source.shape
        _, truth = brain_scan()
        assert ((np.asarray(labels.dataobj) == 1) == (truth == 1)).mean() > 0.95
        assert (folder / "head_dseg.tsv").read_text().splitlines()[1].startswith("1\twhite matter\t")

    def test_json(self, run: Run, scan: Path) -> None:
        code, out, err = run(scan, "--json", "--references", 2)
        document = json.loads(out)
        assert (code, err) == (0, "")
        assert (document["mode"], document["requests"], document["server"]) == ("mixup", 2, "embedded")
        (result,) = document["scans"]
        assert result["exit_code"] == 0
        assert set(result["seconds"]) == {*STAGES, "total"}
        assert "risk" not in result
        assert [c["name"] for c in result["classes"]][:2] == ["white matter", "grey matter"]
        assert "weight" not in out

    def test_json_of_mode_shielded_tells_the_risk_to_the_nearest_half(self, run: Run, scan: Path) -> None:
        code, out, _ = run(scan, "--json", "--mode", "shielded")
        (result,) = json.loads(out)["scans"]
        assert code == 0
        assert set(result["seconds"]) == {*STAGES, "total"}
        assert result["risk"] * 2 % 1 == 0

    def test_device(self, run: Run, scan: Path, emulation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as without:
            without.setattr("mixpriv.cuda._load_from", lambda _: (None, cuda.NOT_COMPILED))
            code, out, err = run(scan, "--device", "cuda")
            assert (code, out, len(err.splitlines())) == (2, "", 1)
            assert "error: device cuda: mixpriv was installed without its CUDA extension" in err
            assert json.loads(run(scan, "--json")[1])["device"] == "cpu"
        monkeypatch.setenv("MIXPRIV_CUDA_EMULATION", str(emulation))
        assert json.loads(run(scan, "--json", "--force", "--device", "cuda")[1])["device"].startswith("cuda: emulation")

    @pytest.mark.parametrize("name", ["out.nii.gz", "out.nii", "."])
    def test_output(self, name: str, run: Run, scan: Path, tmp_path: Path) -> None:
        output = tmp_path / "results" / name
        (tmp_path / "results").mkdir()
        assert run(scan, "-o", output)[0] == 0
        made = "head_dseg.nii.gz" if name == "." else name
        assert listing(tmp_path / "results") == {made, *(made.partition(".nii")[0] + end for end in (".tsv", ".json"))}
        assert nib.load(tmp_path / "results" / made).get_data_dtype() == np.uint8

    def test_reports_and_wire(self, run: Run, scan: Path, folder: Path) -> None:
        assert run(scan, "--report", folder / "r.png", "--save-wire", folder / "new" / "wire")[0] == 0
        assert (folder / "r.png").read_bytes().startswith(b"\x89PNG")
        assert listing(folder / "new" / "wire") == {"mixture.nii.gz", "segmentation_mixture.nii.gz", "request.json"}
        assert run(scan, "--force", "--report", folder / "r.json")[0] == 0
        assert json.loads((folder / "r.json").read_text())["scans"][0]["exit_code"] == 0

    def test_two_runs_leave_the_same_bytes(self, run: Run, scan: Path, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            run(scan, "-o", tmp_path / name, "--save-wire", tmp_path / name / "wire")
        assert len(listing(tmp_path / "one")) == 7
        for path in listing(tmp_path / "one") - {"wire"}:
            assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()

    def test_the_same_scan_in_another_file_is_the_same_request(self, run: Run, scan: Path, folder: Path) -> None:
        source = nib.load(scan)
        nib.save(nib.Nifti1Image(source.get_fdata(dtype=np.float32), source.affine), folder / "unzipped.nii")
        assert run(scan, folder / "unzipped.nii", "--save-wire", folder / "wire")[0] == 0
        sent = [(folder / "wire" / name / "mixture.nii.gz").read_bytes() for name in ("head", "unzipped")]
        assert sent[0] == sent[1]


class TestSeveralModalities:
    def test_a_file_of_another_number_is_refused(
        self, run: Run, in_process: list[Client], scan: Path, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pair = write_toy_bundle(folder / "pair", name="toy-pair", modalities=PAIR)
        both, _ = pair_scan()
        nib.save(nib.Nifti1Image(both.voxels, both.affine), folder / "both.nii.gz")
        code, _, err = run(folder / "both.nii.gz")
        assert (code, len(err.splitlines())) == (2, 1)
        assert "both.nii.gz: expected a 3-D image, got shape (60, 72, 60, 2)" in err
        assert main(["segment", "--bundle", str(pair.directory), str(scan)]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert (
            "head.nii.gz: expected a 4-D image whose last axis holds 2 modalities (FLAIR, T1c), got shape (60," in err
        )
        assert in_process == []


class TestSeveralScans:
    def test_one_server_for_all(self, run: Run, in_process: list[Client], folder: Path) -> None:
        scans = [write_scan(folder / f"s{n}.nii.gz", seed=n) for n in range(3)]
        code, out, _ = run(*scans)
        assert code == 0
        assert len(out.splitlines()) == 3
        assert len(in_process) == 1

    def test_go_on_after_a_failure_and_tell_the_first_code(self, run: Run, folder: Path, scan: Path) -> None:
        (folder / "text.nii.gz").write_text("text")
        code, out, err = run(folder / "text.nii.gz", scan, folder / "none.nii", "--json")
        assert code == 2
        results = json.loads(out)["scans"]
        assert [r["exit_code"] for r in results] == [2, 0, 2]
        assert "expected a NIfTI image" in results[0]["error"]
        told = err.splitlines()
        assert len(told) == 2 + 4
        assert told[2] == "mixpriv-client: 2 of 3 scans failed:"
        assert told[4].split()[1:3] == ["2", str(folder / "text.nii.gz")]
        assert told[5].split()[2:] == [str(folder / "none.nii"), "no", "such", "file"]
        assert (folder / "head_dseg.nii.gz").exists()

    def test_an_unreachable_server_is_tried_once(
        self,
        run,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        tried = []

        def segmenter(client: Client) -> None:
            tried.append(1)
            raise ServerUnavailableError("server gone")

        monkeypatch.setattr(Client, "_segmenter", segmenter)
        code, _, err = run(*(write_scan(folder / f"s{n}.nii.gz") for n in range(2)))
        assert (code, len(tried)) == (3, 1)
        first, second, *table = err.splitlines()
        assert first == second == "mixpriv-client: error: server gone"
        assert len(table) == 3
        assert table[-1].endswith("s0.nii.gz and 1 more  server gone")


class TestRefusals:
    """One line on the standard error, the documented code, and nothing written."""

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["missing.nii.gz"], 2, "missing.nii.gz: no such file"),
            (
                ["head.nii.gz", "--mode", "shielded", "--references", "2"],
                2,
                "mode shielded sends one request for a scan",
            ),
            (["head.nii.gz", "--threads", "0"], 2, "--threads: expected a whole number from 1, got '0'"),
            (["head.nii.gz", "--threads", "9" * 5000], 2, "--threads: expected a whole number from 1, got '999"),
            (["head.nii.gz", "--references", "0"], 2, "references: expected 1 to 20, got 0"),
            (
                ["head.nii.gz", "--mode", "local", "--server", "a:1"],
                2,
                "mode local sends nothing: expected no --server",
            ),
            (["head.nii.gz", "--mode", "local", "--save-wire", "w"], 2, "mode local sends nothing: expected no"),
            (["head.nii.gz", "--mode", "local"], 2, "bundle toy-t1 has no mode local"),
            (["head.nii.gz", "--mode", "none", "--references", "3"], 2, "mode none sends the brain itself"),
            (["head.nii.gz", "-o", "out.txt"], 2, "out.txt: expected an output named .nii, .nii.gz, .mgz or .mgh"),
            (["head.nii.gz", "-o", "head.nii.gz", "--force"], 2, "expected an output that is not the scan itself"),
            (["head.nii.gz", "-o", "none/out.nii"], 5, "cannot be written, its folder does not exist"),
            (["head.nii.gz", "--save-wire", "head.nii.gz"], 5, "cannot be written, its folder does not exist"),
            (["head.nii.gz", "--report", "out.pdf"], 2, "out.pdf: expected a report named .json, .png or .html"),
            (["head.nii.gz", "head.nii.gz"], 2, "head_dseg.nii.gz: two outputs would be written there; expected scans"),
            (
                ["head.nii.gz", "--save-wire", "w", "--report", "w/request.json"],
                2,
                "w/request.json: two outputs would be written there",
            ),
            (
                ["a/mixture.nii.gz", "-o", "out.nii", "--save-wire", "a", "--force"],
                2,
                "a/mixture.nii.gz: expected an output that is not the scan itself",
            ),
            (
                ["a/head.nii.gz", "b/head.nii.gz", "--save-wire", "w"],
                2,
                "w/head/request.json: two outputs would be written there",
            ),
            (["head.nii.gz", "-o", f"{'n' * 250}.nii.gz"], 5, "cannot be written (File name too long)"),
            (["head.nii.gz", "other.nii", "--report", "out.png"], 2, "a picture shows one scan, got 2 scans"),
            (["head.nii.gz", "other.nii", "-o", "out.nii"], 2, "expected a folder as the output of several"),
            (["head.nii.gz", "--bundle", "nosuch"], 2, "bundle 'nosuch' not found"),
        ],
    )
    def test_bad_usage(
        self,
        arguments: list[str],
        code: int,
        message: str,
        run,
        scan: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(scan.parent)
        got, out, err = run(*arguments)
        assert (got, out) == (code, "")
        assert err.startswith("mixpriv-client: error: ")
        assert message in err
        assert len(err.splitlines()) == 1
        assert listing(scan.parent) == {"head.nii.gz"}

    @pytest.mark.parametrize(
        "existing", ["head_dseg.nii.gz", "head_dseg.tsv", "head_dseg.json", "wire/request.json", "r.json", "r.png"]
    )
    def test_outputs_that_exist(
        self,
        existing: str,
        run,
        in_process: list[Client],
        scan: Path,
        folder: Path,
    ) -> None:
        (folder / "wire").mkdir()
        (folder / existing).write_bytes(b"old")
        report = folder / ("r.json" if existing == "r.json" else "r.png")
        arguments = [scan, "--save-wire", folder / "wire", "--report", report]
        code, _, err = run(*arguments)
        assert code == 2
        assert "output exists; give --force to overwrite it" in err
        assert in_process == []
        assert (folder / existing).read_bytes() == b"old"
        assert run(*arguments, "--force")[0] == 0
        assert (folder / existing).read_bytes() != b"old"

    def test_no_brain(self, run: Run, scan: Path, folder: Path) -> None:
        """As in a CT: everything in the field of view has some value."""
        source = nib.load(scan)
        hounsfield = np.random.default_rng(0).normal(40, 20, (90, 90, 90)).astype(np.int16)
        nib.save(nib.Nifti1Image(hounsfield, source.affine), folder / "ct.nii.gz")
        code, _, err = run(folder / "ct.nii.gz")
        assert (code, len(err.splitlines())) == (2, 1)
        assert "ct.nii.gz: no brain found" in err
        assert listing(folder) == {"head.nii.gz", "ct.nii.gz"}

    def test_a_full_disk(self, run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(descriptor: int) -> None:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and "scans" in os.readlink(f"/proc/self/fd/{descriptor}"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.fsync", full)
        code, _, err = run(scan)
        assert (code, len(err.splitlines())) == (5, 1)
        assert "cannot be written (No space left on device)" in err
        assert listing(folder) == {"head.nii.gz"}

    def test_a_full_disk_takes_nothing_that_was_there(
        self, run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert run(scan)[0] == 0
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        full = iter([False, True])  # the table, written last

        def fsync(descriptor: int) -> None:
            if "scans" in os.readlink(f"/proc/self/fd/{descriptor}") and next(full):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.fsync", fsync)
        code, _, err = run(scan, "--force")
        assert (code, len(err.splitlines())) == (5, 1)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    def test_a_file_that_came_meanwhile_is_kept(
        self, run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def count(*arguments: object) -> object:
            (folder / "head_dseg.tsv").write_text("mine")
            return class_volumes(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(segmentation, "class_volumes", count)
        code, _, err = run(scan)
        assert code == 2
        assert "head_dseg.tsv: output exists; give --force to overwrite it" in err
        assert listing(folder) == {"head.nii.gz", "head_dseg.tsv"}
        assert (folder / "head_dseg.tsv").read_text() == "mine"

    def test_a_damaged_ledger_stops_before_anything_is_sent(self, run: Run, scan: Path, home: Path) -> None:
        ledger = home / "home" / "data" / "mixpriv" / "ledger.sqlite3"
        ledger.parent.mkdir(parents=True)
        ledger.write_bytes(b"damaged" * 100)
        code, _, err = run(scan)
        assert code == 2
        assert "ledger.sqlite3: damaged, or not a mixpriv ledger" in err


class TestLedger:
    def test_another_view_for_a_server_is_refused_and_shown(
        self, run: Run, scan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        remote = [scan, "--server", "host:1", "--force"]
        assert run(*remote)[0] == 0
        assert run(*remote)[0] == 0  # the same bytes again
        code, _, err = run(*remote, "--mode", "none")
        assert code == 2
        assert "another view would tell it more; give --allow-repeat" in err
        assert run(*remote, "--mode", "none", "--allow-repeat")[0] == 0
        assert main(["ledger"]) == 0
        out = capsys.readouterr().out
        assert "sent 3 times" in out
        assert "different views 2" in out
        assert main(["ledger", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["scans"][0]["times"] == 3

    def test_begin_anew_only_where_none_is(self, run: Run, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(scan)[0] == 0
        assert main(["ledger", "--new"]) == 2
        assert "exists; move it away first" in capsys.readouterr().err


class TestSignals:
    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
    def test_are_not_lost_in_an_import(
        self, run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
    ) -> None:
        def load(path: Path, modalities: Sequence[str], series: str | None) -> None:
            try:
                os.kill(os.getpid(), sent)
            except BaseException as error:
                raise ImportError from error  # so do numpy and OpenVINO

        handlers = [signal.signal(signal.SIGINT, signal.default_int_handler), signal.getsignal(signal.SIGTERM)]
        monkeypatch.setattr(inputs, "load_volume", load)
        try:
            if sent == signal.SIGINT:
                assert run(scan, scan.parent / "other.nii.gz") == (130, "", "mixpriv-client: interrupted\n")
            else:
                with pytest.raises(SystemExit, match="143"):
                    run(scan, scan.parent / "other.nii.gz")
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            assert signal.getsignal(signal.SIGTERM) is handlers[1]
        finally:
            signal.signal(signal.SIGINT, handlers[0])
        assert listing(folder) == {"head.nii.gz"}


class TestBugs:
    def break_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*arguments: object) -> None:
            raise RuntimeError("voxel 123.456")

        monkeypatch.setattr("mixpriv.client.segment.finish", broken)

    def test_show_no_values(self, run: Run, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.break_it(monkeypatch)
        code, _, err = run(scan)
        assert code == 1
        assert err == "mixpriv-client: error: unexpected RuntimeError, a bug; set MIXPRIV_TRACEBACK=1 to see where\n"

    def test_show_where_when_asked(self, run: Run, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.break_it(monkeypatch)
        monkeypatch.setenv("MIXPRIV_TRACEBACK", "1")
        _, _, err = run(scan)
        assert "Traceback" in err


class TestOtherCommands:
    def test_references(
        self,
        bundle: Bundle,
        run,
        scan: Path,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        _, truth = brain_scan(person=5)
        image = write_scan(folder / "reference.nii.gz", person=5)
        nib.save(nib.Nifti1Image(truth, nib.load(image).affine), folder / "labels.nii.gz")
        where = ["--bundle", str(bundle.directory)]
        assert main(["references", "add", str(image), str(folder / "labels.nii.gz"), *where]) == 0
        name = capsys.readouterr().out.strip()
        assert main(["references", "list", *where]) == 0
        assert capsys.readouterr().out == f"{name} unused\n"
        assert run(scan, "--references-from", "bank")[0] == 0
        assert main(["references", "list", "--json", *where]) == 0
        assert json.loads(capsys.readouterr().out) == [{"name": name, "used": True}]
        code, _, err = run(write_scan(folder / "next.nii.gz", seed=7), "--references-from", "bank")
        assert code == 2
        assert "expected 1 unused references for this scan, got 0" in err

    def test_key(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["key", "path"]) == 0
        path = Path(capsys.readouterr().out.strip())
        assert not path.exists()
        assert main(["key", "export", str(home / "copy")]) == 0
        assert (home / "copy").read_bytes() == path.read_bytes()
        assert main(["key", "export", str(home / "copy")]) == 2
        assert "never overwritten" in capsys.readouterr().err

    def test_info(self, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", "--bundle", str(bundle.directory)]) == 0
        assert bundle.fingerprint in capsys.readouterr().out
        assert main(["info", "--json", "--bundle", str(bundle.directory)]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["classes"] == list(bundle.classes)
        assert set(facts) >= {"version", "key", "ledger", "reference_bank", "instruction_set", "threads", "cuda"}

    def test_an_emulated_device_is_called_one(
        self, emulation: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MIXPRIV_CUDA_EMULATION", str(emulation))
        assert main(["info", "--json", "--bundle", str(bundle.directory)]) == 0
        assert json.loads(capsys.readouterr().out)["cuda"] == "emulation on the CPU, for tests only"

    @pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["--version"]])
    def test_help_loads_nothing_heavy(self, arguments: list[str]) -> None:
        code = (
            "import sys; from mixpriv.cli.client.main import main\n"
            f"try: main({arguments})\n"
            f"except SystemExit: print([m for m in {HEAVY} if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


class TestCrops:
    @pytest.fixture
    def crops(self, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
        return write_toy_crop_bundle(tmp_path_factory.mktemp("crops"))

    def test_a_crop_leaves_all_that_a_head_does(
        self, crops: Bundle, in_process: list[Client], folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        voxels = np.random.default_rng(0).uniform(0, 900, (21, 33, 24)).astype(np.float32)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(folder / "crop.nii.gz")
        arguments = [
            "--bundle",
            str(crops.directory),
            "--report",
            str(folder / "crop.png"),
            "--mode",
            "mixup",
            "--save-wire",
            str(folder / "w"),
        ]
        assert main(["segment", str(folder / "crop.nii.gz"), *arguments]) == 0
        assert f"{folder}/crop_dseg.nii.gz: crop segmented in " in capsys.readouterr().out
        assert {"crop.png", "crop_dseg.nii.gz", "crop_dseg.tsv", "w/mixture.nii.gz"} <= listing(folder)
        assert nib.load(folder / "crop_dseg.nii.gz").shape == voxels.shape
        assert nib.load(folder / "w" / "mixture.nii.gz").shape == crops.grid_shape

    def test_mode_local_needs_no_server_no_key_and_no_ledger(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MIXPRIV_SERVER", "nowhere.invalid:1")
        voxels = np.random.default_rng(0).uniform(0, 900, (26, 33, 24)).astype(np.float32)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(folder / "crop.nii.gz")
        arguments = ["--bundle", "hippocampus", "--mode", "local", "--report", str(folder / "crop.png"), "--json"]
        before = key_path().exists(), ledger_path().exists()
        assert main(["segment", str(folder / "crop.nii.gz"), *arguments]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["mode"], document["server"], document["requests"]) == ("local", None, 0)
        assert (key_path().exists(), ledger_path().exists()) == before == (False, False)
        assert {"crop.png", "crop_dseg.nii.gz", "crop_dseg.tsv"} <= listing(folder)

    def test_a_whole_head_is_refused(
        self, crops: Bundle, in_process: list[Client], scan: Path, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["segment", str(scan), "--bundle", str(crops.directory)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"mixpriv-client: error: {scan}: expected a crop around the toy, 16x24x16 to 32x48x32")
        assert error.count("\n") == 1
        assert listing(folder) == {"head.nii.gz"}
