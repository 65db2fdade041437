"""What other users of the machine can see of a server: nothing that was sent, and no secret, at any moment."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.errors import ServerUnavailableError
from mixpriv.server import triton, wheel
from mixpriv.server.triton import TritonServer
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.token import Token
from mixpriv.wire.transport import GrpcSegmenter
from tests.server import onlooker
from tests.server.commands import address_when_ready, command
from tests.server.processes import children, model_process

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra")
TOKEN = "never-to-be-seen-0123456789"
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@contextmanager
def watched(found: dict[str, Any]) -> Iterator[None]:
    """Have another user look while the context lasts; `found` then holds what could be read."""
    arguments = [sys.executable, "-I", "-S", onlooker.__file__, "/dev/shm", "/tmp", tempfile.gettempdir()]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "looking\n"
            yield
            out, _ = process.communicate(timeout=20)
            found.update(json.loads(out))
        finally:
            process.kill()


def of(pid: int, paths: list[str]) -> list[str]:
    """Those that belong to a process's servers: others may run on this machine."""
    return [path for path in paths if f"mixpriv-{pid}-" in path]


class TestOtherUsers:
    @needs_root
    def test_read_nothing_while_a_server_starts_runs_and_is_started_again(self, bundle: Bundle, tmp_path: Path) -> None:
        token_file = tmp_path / "token"
        token_file.write_text(TOKEN)
        token_file.chmod(0o600)
        found: dict[str, Any] = {}
        zeros = np.zeros((1, 1, *bundle.grid_shape), np.float16)
        with watched(found), command(bundle, "--port", "0", "--token-file", str(token_file)) as process:
            address = address_when_ready(process)
            for restart in (True, False):
                with GrpcSegmenter(address, SegmenterContract.of(bundle), token=Token(TOKEN)) as segmenter:
                    segmenter.segment(zeros)
                if restart:
                    os.kill(model_process(children(process.pid)[0]), signal.SIGKILL)
                    assert address_when_ready(process) == address
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        regions = [path for path in of(process.pid, found["seen"]) if path.startswith("/dev/shm")]
        commands = [text for text in found["commands"] if f"mixpriv-{process.pid}-" in text]
        assert of(process.pid, found["opened"]) == []
        assert len(regions) >= 2
        assert found["environments"] == []
        for text in commands:
            assert TOKEN not in text
            assert not re.search(r"[0-9a-f]{64}", text)
        assert any("--grpc-restricted-protocol=@" in text for text in commands)

    @needs_root
    def test_the_onlooker_sees_what_is_open(self) -> None:
        """Else the test above would say nothing."""
        found: dict[str, Any] = {}
        region = Path(f"/dev/shm/mixpriv-{os.getpid()}-open")
        with watched(found):
            region.touch(0o644)
            region.chmod(0o644)
            try:
                subprocess.run(["sleep", "0.5"], check=True)
            finally:
                region.unlink()
        assert of(os.getpid(), found["opened"]) == [str(region)]


class TestSecrets:
    def test_are_new_at_each_start_and_needed(self, bundle: Bundle) -> None:
        server = TritonServer(bundle, host="127.0.0.1", port=0, stop_timeout_s=0)
        assert server.admin.text != TritonServer(bundle).admin.text
        assert server.admin.text not in repr(vars(server))

    def test_are_in_no_list_of_arguments_and_no_environment(self, bundle: Bundle) -> None:
        with TritonServer(bundle, stop_timeout_s=0) as server:
            for pid in (server.pid, *children(server.pid)):
                for kind in ("cmdline", "environ"):
                    text = Path(f"/proc/{pid}/{kind}").read_bytes()
                    assert server.admin.text.encode() not in text
            assert os.readlink(f"/proc/{server.pid}/fd/0") == "/dev/null"


class TestGuard:
    def test_without_it_no_server_starts(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ServerUnavailableError, match="from other users is missing: install mixpriv again"):
            wheel.find_guard()

    def test_one_that_is_not_loaded_stops_the_start(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        broken = tmp_path / "guard.so"
        broken.write_text("no library")
        monkeypatch.setattr(triton, "find_guard", lambda: broken)
        with pytest.raises(ServerUnavailableError, match=r"did not start: object .* cannot be preloaded"):
            TritonServer(bundle).__enter__()

    def test_memory_that_others_can_read_is_not_used(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        def loosen(server: TritonServer) -> None:
            for region in Path("/dev/shm").glob(f"{server._workspace.regions}*"):
                region.chmod(0o644)
            settle(server)

        settle = TritonServer._settle
        monkeypatch.setattr(TritonServer, "_settle", loosen)
        with pytest.raises(ServerUnavailableError, match="can be read by other users: the server is not used"):
            TritonServer(bundle, stop_timeout_s=0).__enter__()


class TestProcesses:
    def test_leave_no_core_and_nothing_in_the_temporary_folder(self, bundle: Bundle) -> None:
        before = set(Path("/tmp").glob("python_env_*"))
        with TritonServer(bundle, stop_timeout_s=0) as server:
            for pid in (server.pid, *children(server.pid)):
                assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
                (mask,) = re.findall(r"^Umask:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
                assert mask == "0077"
            (own,) = Path(server._folder).glob("python_env_*")
            assert own.is_dir()
        assert set(Path("/tmp").glob("python_env_*")) <= before
        assert not own.exists()
