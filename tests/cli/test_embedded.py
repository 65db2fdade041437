"""The command with a real tritonserver."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import pytest

from mixpriv.bundle import Bundle
from mixpriv.cli.client.main import main
from tests.cli.running import slowness_of, started
from tests.server.processes import children, cpu_seconds, model_process, session_members, soon
from tests.support.phantom import pair_scan, write_reference_model
from tests.support.toybundle import PAIR, write_toy_bundle

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mixpriv.cli.client.main", *map(str, arguments)]


def test_a_scan_through_a_server_of_its_own(bundle: Bundle, scan: Path) -> None:
    done = subprocess.run(
        command("segment", scan, "--bundle", bundle.directory, "--mode", "mixup", "--json"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["server"] == "embedded"
    assert document["start_seconds"] > 0
    assert (scan.parent / "head_dseg.nii.gz").exists()


def test_a_scan_of_two_modalities_through_a_server_of_its_own(home: Path, folder: Path) -> None:
    pair = write_toy_bundle(home / "pair", name="toy-pair", modalities=PAIR)
    write_reference_model(pair)
    scan, _ = pair_scan()
    nib.save(nib.Nifti1Image(scan.voxels, scan.affine), folder / "pair.nii.gz")
    arguments = ("segment", folder / "pair.nii.gz", "--bundle", pair.directory, "--mode", "mixup")
    done = subprocess.run(
        command(*arguments, "--save-wire", folder / "wire"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert nib.load(folder / "pair_dseg.nii.gz").shape == scan.shape
    assert nib.load(folder / "wire" / "mixture.nii.gz").shape == (*pair.grid_shape, 2)


def test_no_server(bundle: Bundle, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.monotonic()
    code = main(["segment", str(scan), "--bundle", str(bundle.directory), "--server", "127.0.0.1:1", "--timeout", "5"])
    error = capsys.readouterr().err
    assert code == 3
    assert error.startswith("mixpriv-client: error: server 127.0.0.1:1 ")
    assert len(error.splitlines()) == 1
    assert time.monotonic() - begin < 10


def test_a_server_of_another_network(
    bundle: Bundle, scan: Path, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    from mixpriv.server.triton import TritonServer

    other = write_toy_bundle(home / "other", sharpness=300.0)
    with TritonServer(other, host="127.0.0.1", port=0, stop_timeout_s=0) as server:
        code = main(["segment", str(scan), "--bundle", str(bundle.directory), "--server", server.address])
    error = capsys.readouterr().err
    assert code == 4
    assert "incompatible" in error
    assert len(error.splitlines()) == 1
    assert [p.name for p in scan.parent.iterdir()] == ["head.nii.gz"]


def wait_until_in_flight(home: Path, running: subprocess.Popen[str], server: int | None = None) -> int:
    """Wait until a server, the client's own by default, works on a request; returns the server's process id.

    The ledger is written right before the first request, when the model process is at rest.
    """
    ledger = home / "home" / "data" / "mixpriv" / "ledger.sqlite3"
    assert soon(lambda: ledger.exists() or running.poll() is not None, 90)
    assert running.poll() is None, running.communicate()
    if server is None:
        (server,) = children(running.pid)
    model = model_process(server)
    begin = cpu_seconds(model)
    assert soon(lambda: cpu_seconds(model) > begin + 0.2, 20)
    return server


@pytest.fixture(scope="session")
def slowness(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many idle convolutions take about 5 s here."""
    return slowness_of(5, 150, tmp_path_factory.mktemp("probe"))


@pytest.fixture
def slow(home: Path, slowness: int) -> Bundle:
    """A bundle whose segmenter takes seconds."""
    bundle = write_toy_bundle(home / "slow", slowness=slowness)
    write_reference_model(bundle)
    return bundle


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_in_mid_request(sent: signal.Signals, code: int, scan: Path, home: Path, slow: Bundle) -> None:
    arguments = ("segment", scan, "--bundle", slow.directory, "--mode", "mixup", "--save-wire", scan.parent / "wire")
    with started(*arguments) as running:
        server = wait_until_in_flight(home, running)
        os.kill(running.pid, sent)
        out, err = running.communicate(timeout=30)
    assert running.returncode == code, err
    assert soon(lambda: session_members(server) == [], 2)
    assert (out, err) == ("", "mixpriv-client: interrupted\n" if sent == signal.SIGINT else "")
    assert [p.name for p in scan.parent.iterdir()] == ["head.nii.gz"]
    assert not list(Path("/dev/shm").glob(f"mixpriv-{running.pid}-*"))
    assert not list(Path(tempfile.gettempdir()).glob(f"mixpriv-{running.pid}-*"))


def test_a_server_killed_in_mid_request(scan: Path, home: Path, slow: Bundle) -> None:
    from mixpriv.server.triton import TritonServer

    with TritonServer(slow, host="127.0.0.1", port=0, stop_timeout_s=0) as server:
        arguments = ("segment", scan, "--bundle", slow.directory, "--server", server.address, "--timeout", 20)
        with started(*arguments) as running:
            wait_until_in_flight(home, running, server.pid)
            os.killpg(server.pid, signal.SIGKILL)
            out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (3, "")
    assert err.startswith(f"mixpriv-client: error: server {server.address} ")
    assert len(err.splitlines()) == 1
    assert [p.name for p in scan.parent.iterdir()] == ["head.nii.gz"]
