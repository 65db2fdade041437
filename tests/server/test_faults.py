"""Real faults against a real tritonserver: the client returns in time, nothing is left behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.errors import ServerUnavailableError
from mixpriv.server.embedded import EmbeddedSegmenter, embedded_server
from mixpriv.server.triton import TritonServer
from mixpriv.wire.address import parse_servers
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.transport import GrpcSegmenter
from tests.server.commands import address_when_ready, command
from tests.server.processes import children, cpu_seconds, model_process, session_members, soon
from tests.support.toybundle import write_slow_bundle

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra"),
    pytest.mark.usefixtures("nothing_left"),
]
ZEROS = np.zeros((1, 1, 64, 80, 64), np.float16)

ENDED = "tritonserver ended by itself: killed by SIGKILL, as the kernel does when memory runs out"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose segmenter takes a second or more."""
    return write_slow_bundle(tmp_path_factory.mktemp("slow"))


def connect(server: TritonServer, bundle: Bundle, timeout_s: float) -> GrpcSegmenter:
    return GrpcSegmenter(server.address, SegmenterContract.of(bundle), timeout_s=timeout_s)


class TestEmbedded:
    def test_serves_on_a_private_socket_and_is_gone_afterwards(self, bundle: Bundle) -> None:
        others = set(children(os.getpid()))
        with embedded_server(bundle, threads=1) as server:
            path = Path(server.address.removeprefix("unix:"))
            assert path.parent.stat().st_mode & 0o777 == 0o700
            (pid,) = set(children(os.getpid())) - others
            with EmbeddedSegmenter(server) as segmenter:
                assert (segmenter.leaves_machine, segmenter.address) == (False, "embedded")
                assert segmenter.segment(ZEROS).shape == (1, 5, 64, 80, 64)
            regions = list(Path("/dev/shm").glob(f"mixpriv-{os.getpid()}-*"))
            assert [region.stat().st_mode & 0o777 for region in regions] == [0o600]
        assert not path.parent.exists()
        assert soon(lambda: session_members(pid) == [], 2)

    def test_dies_when_the_body_fails(self, bundle: Bundle) -> None:
        pids: list[int] = []
        others = set(children(os.getpid()))

        def fail() -> None:
            with embedded_server(bundle):
                pids.extend(set(children(os.getpid())) - others)
                raise KeyError("body")

        with pytest.raises(KeyError, match="body"):
            fail()
        (pid,) = pids
        assert soon(lambda: session_members(pid) == [], 2)

    def test_outlives_the_thread_that_started_it(self, bundle: Bundle) -> None:
        server = TritonServer(bundle, stop_timeout_s=0)
        with ThreadPoolExecutor(1) as other:
            other.submit(server.__enter__).result()
        try:
            with connect(server, bundle, timeout_s=30) as segmenter:
                segmenter.check()
            assert server.lost() is None
        finally:
            server.__exit__(None, None, None)
        assert soon(lambda: session_members(server.pid) == [], 2)


class TestStoppedServer:
    @pytest.mark.parametrize("host", ["127.0.0.1", None])
    def test_cannot_hold_a_client(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, host: str | None) -> None:
        with TritonServer(bundle, host=host, port=0, stop_timeout_s=0) as server:
            segmenter = connect(server, bundle, timeout_s=1)
            segmenter.check()
            os.kill(server.pid, signal.SIGSTOP)
            for _ in ("in the check", "in the transmission"):
                started = time.monotonic()
                with pytest.raises(ServerUnavailableError, match="gave no answer in time"):
                    segmenter.segment(ZEROS)
                assert time.monotonic() - started < 1.5
                monkeypatch.setattr(segmenter, "_check", lambda *arguments: {})
            started = time.monotonic()
            segmenter.close()
            assert time.monotonic() - started < 1


class TestKilledServer:
    def test_ends_a_request_at_once(self, bundle: Bundle) -> None:
        with TritonServer(bundle, stop_timeout_s=0) as server, connect(server, bundle, timeout_s=20) as segmenter:
            segmenter.check()
            os.kill(model_process(server.pid), signal.SIGSTOP)  # so that the request is in flight
            threading.Timer(0.5, os.kill, (server.pid, signal.SIGKILL)).start()
            started = time.monotonic()
            with pytest.raises(ServerUnavailableError, match="closed the connection"):
                segmenter.segment(ZEROS)
            assert time.monotonic() - started < 5
            assert soon(lambda: server.lost() == ENDED, 2)
        assert soon(lambda: session_members(server.pid) == [], 2)

    def test_stub_killed(self, bundle: Bundle) -> None:
        with TritonServer(bundle, stop_timeout_s=0) as server, connect(server, bundle, timeout_s=20) as segmenter:
            os.kill(model_process(server.pid), signal.SIGKILL)
            with pytest.raises(ServerUnavailableError, match="has lost its model process"):
                segmenter.segment(ZEROS)


class TestOwnServer:
    @pytest.mark.parametrize("victim", ["server", "model process"])
    def test_that_is_killed_is_not_waited_for(self, bundle: Bundle, victim: str) -> None:
        """Nobody starts it again, so the patience with a server that may come back is not for it."""
        with embedded_server(bundle) as server:
            servers, contract = parse_servers(server.address), SegmenterContract.of(bundle)
            with ServerPool(servers, contract, timeout_s=60, lost=server.lost) as segmenter:
                segmenter.segment(ZEROS)
                os.kill(server.pid if victim == "server" else model_process(server.pid), signal.SIGKILL)
                started = time.monotonic()
                with pytest.raises(ServerUnavailableError, match=r"^our own server is lost: .* ended by itself"):
                    segmenter.segment(ZEROS)
                assert time.monotonic() - started < 5


class TestCommand:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_stops_cleanly_when_asked(self, bundle: Bundle, number: signal.Signals) -> None:
        with command(bundle, "--port", "0", "--threads", "1") as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("mixpriv-server: toy-t1 0.1.0 ready on 127.0.0.1:")
            (server,) = children(process.pid)
            process.send_signal(number)
            assert process.wait(20) == 0
            assert process.communicate() == ("mixpriv-server: stopped\n", "")
        assert soon(lambda: session_members(server) == [], 2)

    def test_serves_on_when_nobody_reads_what_it_says(self, bundle: Bundle) -> None:
        with command(bundle, "--port", "0", "--restarts", "1") as process:
            address = address_when_ready(process)
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            process.stderr.close()
            os.kill(model_process(children(process.pid)[0]), signal.SIGKILL)
            with ServerPool(parse_servers(address), SegmenterContract.of(bundle), timeout_s=30) as segmenter:
                assert segmenter.segment(ZEROS).shape == (1, 5, 64, 80, 64)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0

    def test_outlives_its_terminal_if_told_so(self, bundle: Bundle) -> None:
        arguments = [
            "nohup",
            sys.executable,
            "-m",
            "mixpriv.cli.server.main",
            "--bundle",
            str(bundle.directory),
            "--port",
            "0",
        ]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            address_when_ready(process)
            process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0

    def test_takes_its_server_with_it_when_killed(self, bundle: Bundle) -> None:
        with command(bundle, "--port", "0") as process:
            assert process.stdout is not None
            process.stdout.readline()
            (server,) = children(process.pid)
            assert len(session_members(server)) == 3  # it, its model process, their watcher
            process.kill()
            assert soon(lambda: session_members(server) == [], within_s=10)
            regions = f"mixpriv-{process.pid}-*"
            assert soon(lambda: not list(Path("/dev/shm").glob(regions)), within_s=5)

    def test_takes_a_model_process_that_computes_with_it_when_killed(self, slow: Bundle) -> None:
        with command(slow, "--port", "0") as process:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            (server,) = children(process.pid)
            segmenter = GrpcSegmenter(address, SegmenterContract.of(slow), timeout_s=60)
            with segmenter, ThreadPoolExecutor(1) as other:
                begin = cpu_seconds(model_process(server))
                answer = other.submit(segmenter.segment, np.zeros((1, 1, *slow.grid_shape), np.float16))
                assert soon(lambda: cpu_seconds(model_process(server)) > begin + 0.2, 20)
                process.kill()
                assert isinstance(answer.exception(20), ServerUnavailableError)
            assert soon(lambda: session_members(server) == [], within_s=10)

    def test_says_that_its_server_died(self, bundle: Bundle) -> None:
        with command(bundle, "--port", "0", "--restarts", "0") as process:
            assert process.stdout is not None
            process.stdout.readline()
            os.kill(children(process.pid)[0], signal.SIGKILL)
            _, said = process.communicate(timeout=10)
        assert process.returncode == 3
        assert said == f"mixpriv-server: {ENDED}\n"

    def test_says_that_the_port_is_taken(self, bundle: Bundle) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with command(bundle, "--port", str(port)) as process:
                _, said = process.communicate(timeout=10)
        assert process.returncode == 3
        assert said == f"mixpriv-server: cannot listen on 127.0.0.1:{port}: Address already in use\n"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--host", "0.0.0.0"], "expected a loopback address"),
            (["--host", "node"], "expected a loopback address"),
            (["--port", "65536"], "expected 0 to 65535"),
            (["--threads", "0"], "expected a whole number from 1"),
            (["--metrics", "8002"], "expected HOST:PORT, got '8002'"),
            (["--metrics", "0.0.0.0:8002"], "--metrics 0.0.0.0: expected a loopback address, or --profile node"),
            (["--metrics", "[::]:8002"], "--metrics ::: expected a loopback address, or --profile node"),
            (["--profile", "node"], "expected --tls-cert, --tls-key and --tls-clients, or --insecure"),
            (["--tls-cert", "x.pem"], "--tls-cert and --tls-key belong together"),
            (["--tls-clients", "x.pem"], "expected --tls-cert and --tls-key with them"),
            (["--token-file", "/none"], "token: /none: No such file"),
        ],
    )
    def test_refuses_bad_usage(self, bundle: Bundle, options: list[str], message: str) -> None:
        with command(bundle, *options) as process:
            _, said = process.communicate(timeout=10)
        assert process.returncode == 2
        assert message in said

    def test_help_is_quick(self, bundle: Bundle) -> None:
        code = "import sys; from mixpriv.cli.server.main import make_parser; make_parser(); print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert not {"numpy", "grpc", "openvino", "tritonclient", "asyncio"} & set(loaded)
