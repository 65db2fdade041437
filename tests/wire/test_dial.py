"""The way to a server, through a proxy or not."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from mixpriv.errors import InputError, ServerLostError
from mixpriv.wire import dial as dialling
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.dial import dial
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.transport import GrpcSegmenter
from tests.support.certificates import Authority, needs_openssl
from tests.wire.fakeserver import FakeServer, response
from tests.wire.forwarding import forward

NAMED = "seg.example.org"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)


class Proxy:
    """A proxy for the method CONNECT that leads everybody to one port, or answers something else."""

    def __init__(self, port: int, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self._target, self._answer = port, answer
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += client.recv(1)
            self.requests.append(request)
            client.sendall(self._answer)
            if b" 200 " not in self._answer:
                return
            forward(client, self._target)


Lead = Callable[..., Proxy]


@pytest.fixture
def lead() -> Iterator[Lead]:
    proxies: list[Proxy] = []

    def to(*arguments: object) -> Proxy:
        proxies.append(Proxy(*arguments))  # type: ignore[arg-type]
        return proxies[-1]

    yield to
    for proxy in proxies:
        proxy.close()


@needs_openssl
class TestProxy:
    @pytest.fixture
    def secured(self, contract: SegmenterContract, tmp_path: Path) -> Iterator[tuple[FakeServer, int, TlsOptions]]:
        """A server whose certificate is for a name that nothing but the proxy finds."""
        authority = Authority(tmp_path / "pki")
        party = authority.server(NAMED)
        fake = FakeServer(contract, lambda context: response(np.zeros((1, 5, 16, 16, 16), np.uint8)))
        running = fake.bind()
        own = grpc.ssl_server_credentials([(party.key.read_bytes(), party.certificate.read_bytes())])
        port = running.add_secure_port("127.0.0.1:0", own)
        running.start()
        yield fake, port, TlsOptions(authority.certificate)
        running.stop(None).wait()

    def test_is_gone_through_with_tls_inside(
        self,
        contract: SegmenterContract,
        secured: tuple[FakeServer, int, TlsOptions],
        lead: Lead,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fake, port, tls = secured
        proxy = lead(port)
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        with GrpcSegmenter(f"{NAMED}:8001", contract, tls=tls, timeout_s=10) as segmenter:
            segmenter.segment(np.zeros((1, 1, 16, 16, 16), np.float16))
        (request,) = proxy.requests
        assert request.startswith(f"CONNECT {NAMED}:8001 HTTP/1".encode())
        assert base64.b64encode(b"me:p@ss") in request
        assert len(fake.requests) == 1

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (b"HTTP/1.1 407 Proxy\x1b[31m\r\n\r\n", r"407 Proxy\\x1b\[31m"),
            (b"SSH-2.0-x\r\n\r\n", "SSH-2"),
            (b"", r"Remote end closed connection"),
        ],
    )
    def test_that_refuses(
        self, contract: SegmenterContract, lead: Lead, monkeypatch: pytest.MonkeyPatch, answer: bytes, message: str
    ) -> None:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{lead(1, answer).port}")
        with (
            GrpcSegmenter(f"{NAMED}:8001", contract, timeout_s=5) as segmenter,
            pytest.raises(ServerLostError, match=rf"^server {NAMED}:8001 cannot be reached: .*{message}") as caught,
        ):
            segmenter.check()
        assert str(caught.value).isprintable()

    def test_never_sees_plain_text(
        self, contract: SegmenterContract, lead: Lead, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = lead(1)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        with (
            GrpcSegmenter("127.0.0.2:1", contract, insecure=True, timeout_s=5) as segmenter,
            pytest.raises(ServerLostError, match="cannot be reached: Connection refused"),
        ):
            segmenter.check()
        assert proxy.requests == []

    @pytest.mark.parametrize("text", ["https://proxy:1", "socks5://proxy:1", "http://", "http://proxy:x"])
    def test_that_is_none_is_named(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("https_proxy", text)
        with pytest.raises(InputError, match="https_proxy: expected http://HOST:PORT, got something else"):
            dial(Address.parse("node:1"), proxied=True, deadline=time.monotonic() + 5)

    @pytest.mark.parametrize(
        ("host", "excepted", "used"),
        [
            ("node.example.org", "", True),
            ("node.example.org", "other.org", True),
            ("node.example.org", "example.org", False),
            ("node.example.org", " a.b, .example.org", False),
            ("badexample.org", "example.org", True),
            ("10.1.2.3", "10.0.0.0/8", False),
            ("10.1.2.3", "11.0.0.0/8", True),
            ("node", "*", False),
            ("localhost", "", False),
        ],
    )
    def test_is_left_out_for_some(
        self, monkeypatch: pytest.MonkeyPatch, host: str, excepted: str, *, used: bool
    ) -> None:
        monkeypatch.setenv("https_proxy", "http://proxy:3128")
        monkeypatch.setenv("no_proxy", excepted)
        assert (dialling._proxy(Address.parse(f"{host}:1")) is not None) == used


class TestNames:
    def found(self, monkeypatch: pytest.MonkeyPatch, *places: tuple[str, int]) -> None:
        known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        real = socket.getaddrinfo

        def look_up(host: str, *arguments: object, **options: object) -> object:
            return known if host == NAMED else real(host, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr("socket.getaddrinfo", look_up)

    def test_with_an_address_that_is_silent_or_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = int(listener.getsockname()[1])
            self.found(monkeypatch, ("127.9.9.9", port), ("127.0.0.1", port))
            with dial(Address.parse(f"{NAMED}:{port}"), proxied=False, deadline=time.monotonic() + 2) as connected:
                assert connected.getpeername() == ("127.0.0.1", port)
                assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert connected.gettimeout() is None

    def test_that_are_not_found_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **options: time.sleep(1) or [])
        begin = time.monotonic()
        with pytest.raises(ServerLostError, match=rf"server {NAMED}:1 cannot be reached: gave no answer in time"):
            dial(Address.parse(f"{NAMED}:1"), proxied=False, deadline=time.monotonic() + 0.1)
        assert time.monotonic() - begin < 0.8

    def test_that_nobody_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*arguments: object, **options: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr("socket.getaddrinfo", unknown)
        with pytest.raises(ServerLostError, match="cannot be reached: Name or service not known"):
            dial(Address.parse(f"{NAMED}:1"), proxied=False, deadline=time.monotonic() + 5)
