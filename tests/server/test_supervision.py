"""``mixpriv-server`` as an operator has it: restarts, checks, metrics, logs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.cli.server.main import main
from mixpriv.server import health, supervisor
from mixpriv.server.events import EventLog
from mixpriv.server.triton import TritonServer
from mixpriv.wire.address import parse_servers
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from tests.server.commands import command
from tests.server.processes import children, model_process, session_members, soon
from tests.support.toybundle import write_toy_bundle
from tests.wire.fakeserver import FakeServer

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra")
ZEROS = np.zeros((1, 1, 64, 80, 64), np.float16)


@pytest.mark.usefixtures("nothing_left")
class TestRestart:
    @pytest.mark.parametrize("victim", [pytest.param("server", marks=pytest.mark.slow), "model process"])
    def test_a_client_finds_the_server_again(self, bundle: Bundle, victim: str) -> None:
        with command(bundle, "--port", "0", "--threads", "1", "--restarts", "1", "--log", "json") as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            (server,) = children(process.pid)
            with ServerPool(parse_servers(ready["address"]), SegmenterContract.of(bundle), timeout_s=30) as segmenter:
                first = segmenter.segment(ZEROS)
                os.kill(server if victim == "server" else model_process(server), signal.SIGKILL)
                np.testing.assert_array_equal(segmenter.segment(ZEROS), first)
            told = [json.loads(process.stdout.readline()) for _ in range(2)]
            assert [event["event"] for event in told] == ["restart", "ready"]
            assert told[1]["address"] == ready["address"]
            assert soon(lambda: session_members(server) == [], 10)
            os.kill(children(process.pid)[0], signal.SIGKILL)
            assert process.wait(10) == 3
            (failed,) = map(json.loads, process.stdout.read().splitlines())
        assert (failed["event"], failed["exit_code"]) == ("failed", 3)
        assert re.search(r"killed by SIGKILL, .*; given up after 1 restarts$", failed["message"])

    def test_a_server_that_stands_still_is_lost(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "PROBE_EVERY_S", 0.1)
        monkeypatch.setattr(health, "PROBE_TIMEOUT_S", 1.0)
        with TritonServer(bundle, stop_timeout_s=0) as server:
            assert health.probe(server) is None
            os.kill(model_process(server.pid), signal.SIGSTOP)
            assert supervisor.watch(server, EventLog()).endswith("gave no answer in time")

    def test_a_first_start_that_fails_is_not_repeated(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        from mixpriv.errors import ServerUnavailableError

        monkeypatch.setattr(supervisor.time, "sleep", lambda seconds: pytest.fail("it waited"))
        made = []

        def make() -> TritonServer:
            made.append(1)
            raise ServerUnavailableError("no tritonserver")

        with pytest.raises(ServerUnavailableError, match="no tritonserver"):
            supervisor.keep_running(make, EventLog(), restarts=5)
        assert made == [1]

    def test_a_long_log_is_cut(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mixpriv.server.triton._LONGEST_LOG", 10)
        with TritonServer(bundle, stop_timeout_s=0) as server:
            server.cut_log()
            (log,) = Path(server.address.removeprefix("unix:")).parent.glob("server.log")
            assert log.stat().st_size == 0


class TestCheck:
    def test_of_a_server_that_is_well(
        self, server: TritonServer, bundle: Bundle, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["check", "--bundle", str(bundle.directory), "--server", server.address]
        before = health.statistics(server)
        assert main(arguments) == 0
        assert main([*arguments, "--full"]) == 0
        out = capsys.readouterr().out
        assert re.match(rf"mixpriv-server: {server.address} serves toy-t1 0\.1\.0, answered in \d", out)
        assert before is not None
        # Triton answers first, and counts afterwards.
        assert soon(lambda: (health.statistics(server) or before).since(before).requests == 2, 5)
        after = health.statistics(server)
        assert after is not None
        served = after.since(before)
        assert (served.requests, served.failures) == (2, 0)
        assert served.infer_s > 0

    def test_of_one_that_is_not_there_among_others(
        self, server: TritonServer, bundle: Bundle, capsys: pytest.CaptureFixture[str]
    ) -> None:
        servers = f"127.0.0.1:1,{server.address}"
        assert main(["check", "--bundle", str(bundle.directory), "--server", servers, "--log", "json"]) == 3
        failed, well = map(json.loads, capsys.readouterr().out.splitlines())
        assert (failed["event"], failed["exit_code"], failed["address"]) == ("failed", 3, "127.0.0.1:1")
        assert (well["event"], well["address"]) == ("well", server.address)

    def test_of_another_network(self, server: TritonServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        other = write_toy_bundle(tmp_path, sharpness=300)
        assert main(["check", "--bundle", str(other.directory), "--server", server.address]) == 4
        assert "is incompatible" in capsys.readouterr().err

    def test_of_a_busy_server_and_of_the_bundle_that_the_environment_names(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def busy(context: Any) -> Any:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

        monkeypatch.setenv("MIXPRIV_BUNDLE", str(bundle.directory))
        running = FakeServer(SegmenterContract.of(bundle), busy).bind()
        port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        try:
            assert main(["check", "--server", f"127.0.0.1:{port}"]) == 0
        finally:
            running.stop(None)
        assert "busy" in capsys.readouterr().out

    def test_of_a_dead_model_process(self, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
        """Triton itself says that it is ready."""
        with TritonServer(bundle, host="127.0.0.1", port=0, stop_timeout_s=0) as server:
            os.kill(model_process(server.pid), signal.SIGKILL)
            assert main(["check", "--bundle", str(bundle.directory), "--server", server.address]) == 3
        assert "has lost its model process" in capsys.readouterr().err

    def test_of_a_stopped_server_ends_in_time(self, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
        with TritonServer(bundle, host="127.0.0.1", port=0, stop_timeout_s=0) as server:
            os.kill(server.pid, signal.SIGSTOP)
            arguments = ["check", "--bundle", str(bundle.directory), "--server", server.address, "--timeout", "1"]
            assert main(arguments) == 3
        assert "gave no answer in time" in capsys.readouterr().err


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


class TestMetrics:
    def test_are_read_where_they_were_asked_for(self, bundle: Bundle) -> None:
        port = free_port()
        with TritonServer(bundle, host="127.0.0.1", port=0, metrics=("127.0.0.1", port), stop_timeout_s=0) as server:
            assert health.probe(server) is None
            counted = r'nv_inference_request_success\{model="toy-t1_segmenter",version="\d+"\} 2'  # with the warm-up
            assert soon(lambda: re.search(counted, metrics(port)) is not None, 5)  # counted once it was answered
            listening = listeners(server.pid)
        assert listening == {("127.0.0.1", port), ("127.0.0.1", server._port)}

    def test_and_nothing_else_are_off_by_default(self, server: TritonServer) -> None:
        assert listeners(server.pid) == {("127.0.0.1", server._port)}


def listeners(pid: int) -> set[tuple[str, int]]:
    """Where a process listens on TCP, as the kernel tells."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))
        except OSError:
            continue
    found = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                found.add((socket.inet_ntop(family, b"".join(words)).removeprefix("::ffff:"), int(port, 16)))
    return found
