"""What is wrong when a server cannot start: one line each, without starting one where that is possible."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from mixpriv.bundle import Bundle
from mixpriv.errors import ServerUnavailableError
from mixpriv.server import triton, wheel
from mixpriv.server.processes import reason_in
from mixpriv.server.triton import TritonServer

needs_wheel = pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra")


class TestWheel:
    def test_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        with pytest.raises(ServerUnavailableError, match="Linux x86-64 only, this is linux aarch64: use --server"):
            wheel.find_wheel()

    def test_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ServerUnavailableError, match=r"pip install 'mixpriv\[server\]'"):
            wheel.find_wheel()

    @needs_wheel
    def test_with_numpy_2(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.metadata.version", lambda name: "2.1.0")
        with pytest.raises(ServerUnavailableError, match=r"needs numpy<2, found 2\.1\.0"):
            wheel.find_wheel()

    @needs_wheel
    def test_without_libpython(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("sysconfig.get_config_var", lambda name: str(tmp_path))
        monkeypatch.setattr("sys.base_prefix", str(tmp_path))
        monkeypatch.setattr(wheel, "_SYSTEM_LIBRARIES", tmp_path)
        with pytest.raises(ServerUnavailableError, match=r"needs libpython3\..*apt-get install libpython3\."):
            wheel.find_wheel()


class TestStart:
    @needs_wheel
    def test_needs_shared_memory(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**22, 2**21, 2**21))
        with pytest.raises(ServerUnavailableError, match="/dev/shm has 2 MiB free, the server needs 5 MiB"):
            TritonServer(bundle).__enter__()

    @needs_wheel
    def test_names_what_the_model_lacks(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        def corrupt(bundle: Bundle, folder: Path, *, link: bool) -> None:
            write(bundle, folder)
            (folder / bundle.model_name / str(bundle.model_version) / "segmenter.onnx").write_text("other")

        write = triton.write_repository
        monkeypatch.setattr(triton, "write_repository", corrupt)
        with pytest.raises(
            ServerUnavailableError, match=r"did not start: .*is not the network that config\.pbtxt names"
        ):
            TritonServer(bundle).__enter__()

    @needs_wheel
    def test_needs_a_folder_in_memory(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("mixpriv.server.workspace._SHARED_MEMORY", tmp_path / "none")
        with pytest.raises(ServerUnavailableError, match=r"needs .*none, a folder in memory: it is missing"):
            TritonServer(bundle).__enter__()

    @needs_wheel
    def test_does_not_depend_on_path_and_temporary_folder(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Its parts are links and stay as they were installed."""
        stub = wheel.find_wheel().stub
        before = stub.stat().st_mode
        base = tmp_path / "per%20cent, ümlaut; 'x"
        base.mkdir()
        monkeypatch.setenv("TMPDIR", str(base))
        monkeypatch.delenv("PATH")
        with TritonServer(bundle, stop_timeout_s=0) as server:
            assert server.address.startswith("unix:/tmp/mixpriv-")
        assert stub.stat().st_mode == before

    @needs_wheel
    def test_needs_bash(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(os, "defpath", str(tmp_path))
        with pytest.raises(ServerUnavailableError, match="tritonserver needs bash, found none in PATH"):
            TritonServer(bundle).__enter__()

    @needs_wheel
    @pytest.mark.parametrize(("kind", "name"), [(resource.RLIMIT_AS, "ulimit -v"), (resource.RLIMIT_DATA, "ulimit -d")])
    def test_needs_memory(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, kind: int, name: str) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda asked: (200 << 20, -1) if asked == kind else (-1, -1))
        with pytest.raises(ServerUnavailableError, match=rf"the server needs \d+ MiB .* may use 200 \({name}\)"):
            TritonServer(bundle).__enter__()

    @needs_wheel
    def test_a_model_process_that_dies_is_noticed(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        def poison(bundle: Bundle, folder: Path, *, link: bool) -> None:
            write(bundle, folder)
            model = folder / bundle.model_name / str(bundle.model_version) / "model.py"
            model.write_text("import os\nos.kill(os.getpid(), 9)\n")

        write = triton.write_repository
        monkeypatch.setattr(triton, "write_repository", poison)
        begin = time.monotonic()
        with pytest.raises(ServerUnavailableError, match=r"model process.* memory runs out"):
            TritonServer(bundle).__enter__()
        assert time.monotonic() - begin < 10


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="this system has no such limit")
@pytest.mark.parametrize("arguments", [["mixpriv.cli.client.main", "segment", "scan.nii"], ["mixpriv.cli.server.main"]])
def test_commands_with_little_memory_say_so_at_once(arguments: list[str]) -> None:
    limit = f"ulimit -v 200000; exec {sys.executable} -m {' '.join(arguments)}"
    done = subprocess.run(["bash", "-c", limit], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode in (2, 3)
    assert re.fullmatch(r"mixpriv-\w+: .*needs \d+ MiB of memory, but may use 195 \(ulimit -v\)\n", done.stderr)


LOGS = [
    (
        'E1 1 server.cc:241] "CudaDriverHelper has not been initialized."\n'
        "E1 1 model_lifecycle.cc:642] \"failed to load 'm' version 4: Internal: "
        "ModuleNotFoundError: No module named 'x'"
        r'\n\nAt:\n  m.py(1): <module>\n"'
        "\nerror: creating server: Internal - failed to load all models\n",
        "ModuleNotFoundError: No module named 'x'",
    ),
    (
        "E1 1 main.cc:245] \"failed to start GRPC service: Unavailable - Socket '127.0.0.1:1' already in use \"\n",
        "Unavailable - Socket '127.0.0.1:1' already in use",
    ),
    ("/stub: error while loading shared libraries: libx.so.1: cannot open\n\n", "libx.so.1: cannot open"),
    (
        "ERROR: ld.so: object '/x/g.so' from LD_PRELOAD cannot be preloaded (invalid ELF header): ignored.\nusage\n",
        "object '/x/g.so' from LD_PRELOAD cannot be preloaded (invalid ELF header)",
    ),
    ("something\nthe end\n\n", "the end"),
    ("", "it wrote no reason"),
]


@pytest.mark.parametrize(("text", "reason"), LOGS)
def test_reason_in_a_log(tmp_path: Path, text: str, reason: str) -> None:
    log = tmp_path / "server.log"
    log.write_text(text, encoding="utf-8")
    assert reason_in(log) == reason
