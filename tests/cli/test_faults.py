"""Real faults, a real client and real servers: the right file or none, one line, the documented code, in time."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.server.triton import TritonServer
from tests.cli.running import slowness_of, started
from tests.server.commands import address_when_ready, command
from tests.server.processes import children, cpu_seconds, model_process, session_members, soon
from tests.support.phantom import write_reference_model, write_scan
from tests.support.toybundle import write_toy_bundle

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra")
DEAD = "127.0.0.1:1"
CLIENT = (sys.executable, "-m", "mixpriv.cli.client.main")


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[TritonServer]:
    """A server that tests leave as it was."""
    with TritonServer(bundle, host="127.0.0.1", port=0, threads=1, stop_timeout_s=0) as running:
        yield running


@pytest.fixture(scope="module")
def truth(bundle: Bundle, server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, and the labels and table that an undisturbed run makes of the scan with it."""
    folder = tmp_path_factory.mktemp("truth")
    scan = write_scan(folder / "head.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        with started("segment", scan, "--bundle", bundle.directory, "--server", server.address) as running:
            out, err = running.communicate(timeout=120)
    assert running.returncode == 0, (out, err)
    return folder


@pytest.fixture
def own_key(truth: Path, home: Path) -> None:
    """The same key, a ledger of its own: the same scan is then the same bytes."""
    key = home / "home" / "config" / "mixpriv" / "client.key"
    key.parent.mkdir(parents=True, mode=0o700)
    shutil.copy2(truth / "config" / "mixpriv" / "client.key", key)


pytestmark = [pytestmark, pytest.mark.usefixtures("own_key")]


def right(scan: Path, truth: Path) -> bool:
    """Whether the scan's results are those of an undisturbed run, byte for byte, and nothing else lies there."""
    names = ("head_dseg.json", "head_dseg.nii.gz", "head_dseg.tsv")
    assert {path.name for path in scan.parent.iterdir()} == {scan.name, *names}
    return all((scan.parent / name).read_bytes() == (truth / name).read_bytes() for name in names)


def none(scan: Path) -> bool:
    """Whether nothing was left beside the scan."""
    return [path.name for path in scan.parent.iterdir()] == [scan.name]


@pytest.fixture
def ledger(home: Path) -> Path:
    return home / "home" / "data" / "mixpriv" / "ledger.sqlite3"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose segmenter takes about 2 s on this machine, as busy as it is."""
    slowness = slowness_of(2, 60, tmp_path_factory.mktemp("probe"))
    bundle = write_toy_bundle(tmp_path_factory.mktemp("slow"), slowness=slowness)
    write_reference_model(bundle)
    return bundle


def wait_until_at_work(models: list[int], running: subprocess.Popen[str], ledger: Path) -> int:
    """Wait until one of some model processes computes on a request of the client; returns its place."""
    # The ledger is written right before the request, when all are at rest.
    assert soon(lambda: ledger.exists() or running.poll() is not None, 90)
    assert running.poll() is None, running.communicate()
    begin = [cpu_seconds(model) for model in models]
    busy = [False] * len(models)

    def look() -> bool:
        busy[:] = [cpu_seconds(model) > before + 0.2 for model, before in zip(models, begin, strict=True)]
        return any(busy)

    assert soon(look, 20)
    return busy.index(True)


def labels(scan: Path) -> bytes:
    return np.asarray(nib.load(scan.parent / "head_dseg.nii.gz").dataobj).tobytes()


class TestServerInMidRequest:
    """The client's request is in flight when it happens, and what comes of it is the right answer."""

    @pytest.fixture(autouse=True)
    def is_answered(self, slow: Bundle, scan: Path) -> Iterator[None]:
        """Afterwards: as the network answers to the same mixture in this process."""
        from mixpriv.client.ledger import Ledger
        from mixpriv.client.pipeline import open_pipeline
        from mixpriv.client.segment import segment
        from mixpriv.imaging.volume import load_volume
        from mixpriv.key import load_or_create_key
        from mixpriv.protection.modes import named

        yield
        network = InProcessSegmenter(slow.segmenter_path)
        pipeline = open_pipeline(slow, named(slow.recommended_mode), load_or_create_key(), network)
        pipeline = replace(pipeline, ledger=Ledger(scan.parents[1] / "other.sqlite3"))
        assert labels(scan) == segment(load_volume(scan), pipeline).labels.tobytes()

    def test_killed_and_started_again(self, slow: Bundle, scan: Path, ledger: Path) -> None:
        with command(slow, "--port", "0") as operator:
            address = address_when_ready(operator)
            (server,) = children(operator.pid)
            with started("segment", scan, "--bundle", slow.directory, "--server", address) as running:
                wait_until_at_work([model_process(server)], running, ledger)
                os.kill(server, signal.SIGKILL)
                _, err = running.communicate(timeout=90)
        assert (running.returncode, err) == (0, "")
        assert soon(lambda: session_members(server) == [], 10)

    @pytest.mark.slow
    def test_stopped_for_20_s(self, slow: Bundle, scan: Path, ledger: Path) -> None:
        with TritonServer(slow, host="127.0.0.1", port=0, stop_timeout_s=0) as server:
            stopped = [server.pid, model_process(server.pid)]
            with started("segment", scan, "--bundle", slow.directory, "--server", server.address) as running:
                wait_until_at_work(stopped[1:], running, ledger)
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)
                time.sleep(20)
                assert running.poll() is None
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
                _, err = running.communicate(timeout=90)
        assert (running.returncode, err) == (0, "")

    @pytest.mark.slow
    def test_one_of_two_killed(self, slow: Bundle, scan: Path, ledger: Path) -> None:
        with (
            TritonServer(slow, host="127.0.0.1", port=0, stop_timeout_s=0) as one,
            TritonServer(slow, host="127.0.0.1", port=0, stop_timeout_s=0) as other,
        ):
            servers = f"{one.address},{other.address}"
            with started("segment", scan, "--bundle", slow.directory, "--server", servers) as running:
                models = [model_process(one.pid), model_process(other.pid)]
                victim = wait_until_at_work(models, running, ledger)
                os.killpg((one.pid, other.pid)[victim], signal.SIGKILL)
                _, err = running.communicate(timeout=90)
        assert (running.returncode, err) == (0, "")


class TestServer:
    def test_stopped_for_longer_than_the_deadline(self, bundle: Bundle, scan: Path) -> None:
        with TritonServer(bundle, host="127.0.0.1", port=0, stop_timeout_s=0) as server:
            os.kill(server.pid, signal.SIGSTOP)
            arguments = ("segment", scan, "--bundle", bundle.directory, "--server", server.address, "--timeout", 2)
            with started(*arguments) as running:
                _, err = running.communicate(timeout=60)
        assert (running.returncode, err.count("\n")) == (3, 1)
        assert "gave no answer in time" in err
        assert none(scan)

    def test_one_of_two_dead_from_the_start(
        self, bundle: Bundle, server: TritonServer, scan: Path, truth: Path
    ) -> None:
        servers = f"{DEAD},{server.address}"
        with started("segment", scan, "--bundle", bundle.directory, "--server", servers) as running:
            _, err = running.communicate(timeout=60)
        assert (running.returncode, err) == (0, "")
        assert right(scan, truth)


class TestClient:
    @pytest.mark.parametrize("unnamed", [True, False])
    def test_killed_in_mid_write(
        self, bundle: Bundle, server: TritonServer, scan: Path, truth: Path, *, unnamed: bool
    ) -> None:
        """What it began has no name, or a hidden one where the file system wants one; the next run does not mind."""
        arguments = ("segment", scan, "--bundle", bundle.directory, "--server", server.address)
        die = (
            "import os, signal\n"
            f"{'' if unnamed else 'del os.O_TMPFILE'}\n"
            f"here, real = {str(scan.parent)!r}, os.fsync\n"
            "def fsync(fd):\n"
            "    path = os.readlink(f'/proc/self/fd/{fd}')\n"
            "    os.kill(os.getpid(), signal.SIGKILL) if path.startswith(here) else real(fd)\n"
            "os.fsync = fsync\n"
        )
        with started(*arguments, first=die) as running:
            running.communicate(timeout=60)
        assert running.returncode == -signal.SIGKILL
        left = [path for path in scan.parent.iterdir() if path != scan]
        assert len(left) == (0 if unnamed else 1)
        for path in left:
            assert path.name.startswith(".mixpriv-")
            assert path.suffix == ".part"
            path.unlink()
        with started(*arguments) as running:
            running.communicate(timeout=60)
        assert running.returncode == 0
        assert right(scan, truth)

    @pytest.mark.parametrize("options", [("-o", "out.nii"), ("--save-wire", "wire")])
    def test_on_a_full_disk(self, bundle: Bundle, server: TritonServer, scan: Path, options: tuple[str, str]) -> None:
        """The kernel refuses what goes beyond 64 KiB a file, as a full disk does."""
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))"
        target = scan.parent / options[1]
        arguments = ("segment", scan, "--bundle", bundle.directory, "--server", server.address, options[0], target)
        with started(*arguments, first=limit) as running:
            _, err = running.communicate(timeout=60)
        assert (running.returncode, err.count("\n")) == (5, 1), err
        assert "cannot be written (File too large)" in err
        assert not [path for path in scan.parent.rglob("*") if path.is_file() and path != scan]

    def test_four_at_once(self, bundle: Bundle, server: TritonServer, folder: Path, scan: Path, truth: Path) -> None:
        """They share a key and a ledger."""
        for n in range(3):
            (folder / f"other{n}").mkdir()
        scans = [scan, *(write_scan(folder / f"other{n}" / "head.nii.gz", seed=n + 1) for n in range(3))]
        running = [
            subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for command in (
                [*CLIENT, "segment", one, "--bundle", bundle.directory, "--server", server.address] for one in scans
            )
        ]
        said = [one.communicate(timeout=120) for one in running]
        assert [one.returncode for one in running] == [0] * 4, said
        for name in ("head_dseg.nii.gz", "head_dseg.tsv"):
            assert (scan.parent / name).read_bytes() == (truth / name).read_bytes()
        maps = {np.asarray(nib.load(one.parent / "head_dseg.nii.gz").dataobj).tobytes() for one in scans}
        assert len(maps) == 4
