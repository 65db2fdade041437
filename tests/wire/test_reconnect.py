"""No voxel before the very connection that carries it has shown the right network."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from mixpriv.errors import IncompatibleServerError, ServerLostError
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.transport import GrpcSegmenter
from tests.support.certificates import Authority
from tests.wire.fakeserver import FakeServer, response
from tests.wire.forwarding import forward

SHAPE = (1, 1, 16, 16, 16)


def mixture() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, np.float32).astype(np.float16)


class Switch:
    """A port behind which there is now one server, now another; connections to the first can be cut."""

    def __init__(self, port: int) -> None:
        self.port_behind = port
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._listen, daemon=True).start()

    def to(self, port: int) -> None:
        """Cut all connections; whoever comes from now on meets the server on another port."""
        self.port_behind = port
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client, self.port_behind), daemon=True).start()

    def _serve(self, client: socket.socket, port: int) -> None:
        with client:
            forward(client, port)


Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a fake server and tells its port."""
    running: list[grpc.Server] = []

    def started(fake: FakeServer, credentials: grpc.ServerCredentials | None = None, address: str = "") -> int:
        running.append(fake.bind())
        where = address or "127.0.0.1:0"
        if credentials is None:
            port = running[-1].add_insecure_port(where)
        else:
            port = running[-1].add_secure_port(where, credentials)
        running[-1].start()
        return int(port)

    yield started
    for server in running:
        server.stop(None).wait()


def well(context: object) -> object:
    return response(np.zeros((1, 5, 16, 16, 16), np.uint8))


@pytest.fixture
def other(contract: SegmenterContract) -> FakeServer:
    """A server of another network."""
    return FakeServer(replace(contract, parameters={**contract.parameters, "fingerprint": "0" * 64}), well)


def swap_after_check(monkeypatch: pytest.MonkeyPatch, swap: Callable[[], None]) -> None:
    """Have the connection cut between the answer to a check and the request."""
    checked = GrpcSegmenter._check

    def check(self: GrpcSegmenter, *args: object) -> object:
        said = checked(self, *args)  # type: ignore[arg-type]
        swap()
        time.sleep(0.3)  # gRPC notices, and may reconnect
        return said

    monkeypatch.setattr(GrpcSegmenter, "_check", check)


class TestConnectionCutAfterTheCheck:
    @pytest.mark.parametrize("secure", [False, True])
    def test_an_unchecked_server_gets_no_voxel(
        self, contract: SegmenterContract, other: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path, *, secure: bool,
    ) -> None:  # fmt: skip
        tls = credentials = None
        if secure:
            if shutil.which("openssl") is None:
                pytest.skip("needs the openssl program")
            authority = Authority(tmp_path / "pki")
            party = authority.server()
            credentials = grpc.ssl_server_credentials([(party.key.read_bytes(), party.certificate.read_bytes())])
            tls = TlsOptions(authority.certificate, server_name="localhost")
        right = FakeServer(contract, well)
        switch = Switch(start(right, credentials))
        taken = start(other, credentials)
        swap_after_check(monkeypatch, lambda: switch.to(taken))
        with GrpcSegmenter(f"127.0.0.1:{switch.port}", contract, tls=tls, timeout_s=10) as segmenter:
            with pytest.raises(ServerLostError, match=r"server 127\.0\.0\.1:\d+ closed the connection"):
                segmenter.segment(mixture())
            with pytest.raises(IncompatibleServerError, match="it serves"):
                segmenter.segment(mixture())
        switch.close()
        assert (right.requests, other.requests) == ([], [])

    def test_nor_does_one_that_takes_the_port(
        self, contract: SegmenterContract, other: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = FakeServer(contract, well)
        running = first.bind()
        port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        swapped: list[int] = []

        def swap() -> None:
            if not swapped:
                running.stop(None).wait()
                swapped.append(start(other, None, f"127.0.0.1:{port}"))

        swap_after_check(monkeypatch, swap)
        with (
            GrpcSegmenter(f"127.0.0.1:{port}", contract, timeout_s=10) as segmenter,
            pytest.raises(ServerLostError, match="closed the connection"),
        ):
            segmenter.segment(mixture())
        assert other.requests == []

    def test_nor_on_a_unix_socket(
        self, contract: SegmenterContract, other: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        path = tmp_path / "s"
        running = FakeServer(contract, well).bind()
        running.add_insecure_port(f"unix:{path}")
        running.start()
        swapped: list[int] = []

        def swap() -> None:
            if not swapped:
                running.stop(None).wait()
                path.unlink(missing_ok=True)
                swapped.append(start(other, None, f"unix:{path}"))

        swap_after_check(monkeypatch, swap)
        with (
            GrpcSegmenter(f"unix:{path}", contract, timeout_s=10) as segmenter,
            pytest.raises(ServerLostError, match="closed the connection"),
        ):
            segmenter.segment(mixture())
        assert other.requests == []

    def test_the_next_server_is_asked(
        self, contract: SegmenterContract, other: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("secrets.randbelow", lambda n: 0)
        good = FakeServer(contract, well)
        switch = Switch(start(FakeServer(contract, well)))
        taken, standing = start(other), start(good)
        swap_after_check(monkeypatch, lambda: switch.to(taken))
        addresses = [Address.parse(f"127.0.0.1:{port}") for port in (switch.port, standing)]
        with ServerPool(addresses, contract, timeout_s=10) as segmenter:
            assert segmenter.segment(mixture()).shape == (1, 5, 16, 16, 16)
        switch.close()
        assert (len(other.requests), len(good.requests)) == (0, 1)


class TestConnection:
    def test_is_one_for_many_requests(self, contract: SegmenterContract, start: Start) -> None:
        switch = Switch(start(FakeServer(contract, well)))
        with GrpcSegmenter(f"127.0.0.1:{switch.port}", contract, timeout_s=10) as segmenter:
            for _ in range(3):
                segmenter.segment(mixture())
        switch.close()
        assert switch.connections == 1

    def test_that_ended_while_idle_is_made_anew(self, contract: SegmenterContract, start: Start) -> None:
        """As many proxies do; nobody has to ask again for it."""
        right = FakeServer(contract, well)
        port = start(right)
        switch = Switch(port)
        with GrpcSegmenter(f"127.0.0.1:{switch.port}", contract, timeout_s=10) as segmenter:
            for _ in range(2):
                segmenter.segment(mixture())
                switch.to(port)
        switch.close()
        assert len(right.requests) == 2
