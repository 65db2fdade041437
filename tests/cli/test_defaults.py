"""What ``segment`` does when nobody says how: what serves the user, and nothing leaves that need not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mixpriv.api import EMBEDDED, Client
from mixpriv.bundle import Bundle
from mixpriv.cli.client.main import main
from mixpriv.client.ledger import Ledger, ledger_path
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.key import key_path
from tests.cli.running import Run


def changed(bundle: Bundle, folder: Path, **fields: object) -> Path:
    """A copy of a bundle with other fields."""
    shutil.copytree(bundle.directory, folder)
    told = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(told | fields))
    return folder


class TestWithoutServer:
    def test_the_network_runs_here_and_leaves_no_trace(
        self, bundle: Bundle, scan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mixpriv.server.embedded.embedded_server", None)
        monkeypatch.setattr("mixpriv.wire.servers.ServerPool.__init__", None)
        assert main(["segment", str(scan), "--bundle", str(bundle.directory)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        (line,) = out.splitlines()
        assert line.endswith(" s, mode none, nothing left this machine")
        assert (scan.parent / "head_dseg.nii.gz").exists()
        assert not key_path().parent.exists()
        assert not ledger_path().parent.exists()

    def test_json(self, run_as_given: Run, in_process: list[Client], scan: Path) -> None:
        code, out, err = run_as_given(scan, "--json")
        document = json.loads(out)
        assert (code, err) == (0, "")
        assert (document["mode"], document["requests"], document["server"]) == ("none", 1, None)
        assert [client.server for client in in_process] == [None]
        assert "ledger" not in document["scans"][0]["seconds"]

    def test_no_home_is_needed(self, run_as_given: Run, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            monkeypatch.setenv(variable, "")
        monkeypatch.setattr("mixpriv.key.load_or_create_key", None)
        assert run_as_given(scan)[0] == 0

    def test_it_is_as_accurate_as_the_network(self, run_as_given: Run, scan: Path, tmp_path: Path) -> None:
        assert run_as_given(scan, "-o", tmp_path / "default.nii")[0] == 0
        assert run_as_given(scan, "--mode", "none", "--server", "host:1", "-o", tmp_path / "none.nii")[0] == 0
        assert (tmp_path / "default.nii").read_bytes() == (tmp_path / "none.nii").read_bytes()

    @pytest.mark.parametrize(
        ("options", "mode"),
        [
            (["--mode", "mixup"], "mixup"),
            (["--mode", "shielded"], "shielded"),
            (["--references", "2"], "mixup"),
            (["--weight", "0.6"], "mixup"),
        ],
    )
    def test_a_mixture_takes_the_whole_way(
        self, options: list[str], mode: str, run_as_given: Run, in_process: list[Client], scan: Path
    ) -> None:
        code, out, err = run_as_given(scan, *options)
        assert (code, err) == (0, "")
        assert f"mode {mode}" in out
        assert out.endswith(", nothing left this machine\n")
        assert [client.server for client in in_process] == [EMBEDDED]
        assert [entry.left_machine for entry in Ledger().entries()] == [False]
        assert key_path().exists()

    def test_what_was_sent_cannot_be_kept_where_nothing_is(self, run_as_given: Run, scan: Path) -> None:
        for options in ((), ("--mode", "none")):
            code, out, err = run_as_given(scan, "--save-wire", scan.parent / "wire", *options)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert "without a server nothing is sent: expected no --save-wire" in err
        assert [path.name for path in scan.parent.iterdir()] == ["head.nii.gz"]

    def test_a_bundle_without_the_servers_network_needs_a_server(
        self, bundle: Bundle, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        part = changed(bundle, tmp_path / "part")
        (part / "segmenter.onnx").unlink()
        assert main(["segment", str(scan), "--bundle", str(part)]) == 2
        err = capsys.readouterr().err
        assert err == "mixpriv-client: error: bundle toy-t1: its network is at its owner's server: expected a server\n"


class TestWithServer:
    @pytest.mark.parametrize("server", ["host:1", EMBEDDED])
    def test_the_bundle_says_the_mode(
        self, server: str, bundle: Bundle, run_as_given: Run, in_process: list[Client], scan: Path, tmp_path: Path
    ) -> None:
        advised = changed(bundle, tmp_path / "advised", recommended_mode="shielded")
        assert run_as_given(scan, "--server", server)[0] == 0
        assert run_as_given(scan, "--server", server, "--force", "--allow-repeat", "--bundle", advised)[0] == 0
        assert [client.mode.name for client in in_process] == ["mixup", "shielded"]
        assert [entry.mode for entry in Ledger().entries()] == ["mixup", "shielded"]

    def test_of_the_environment_is_one(
        self, run_as_given: Run, in_process: list[Client], scan: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MIXPRIV_SERVER", "host:1")
        code, out, _ = run_as_given(scan)
        assert code == 0
        assert out.endswith(", mode mixup, sent to host:1\n")
        assert [(client.mode.name, client.server) for client in in_process] == [("mixup", "host:1")]

    def test_the_brain_itself_is_sent_to_who_asks_for_it(
        self, run_as_given: Run, scan: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        segment = InProcessSegmenter.segment
        monkeypatch.setattr(
            InProcessSegmenter, "segment", lambda self, mixture: seen.append(mixture) or segment(self, mixture)
        )
        assert run_as_given(scan, "--server", "host:1")[0] == 0
        code, out, _ = run_as_given(scan, "--server", "host:1", "--mode", "none", "--force", "--allow-repeat")
        assert code == 0
        assert out.endswith(", mode none, sent to host:1\n")
        assert [entry.mode for entry in Ledger().entries()] == ["mixup", "none"]
        assert len(seen) == 2
        assert (seen[0] != seen[1]).any()
