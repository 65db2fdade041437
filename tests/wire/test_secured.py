"""TLS of our own: whose certificate a connection shows, and that as much passes as without it."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mixpriv.errors import InputError, ServerLostError, ServerUnavailableError
from mixpriv.wire.secured import SecuredSocket
from mixpriv.wire.tls import TlsOptions
from tests.support.certificates import Authority, Party, needs_openssl

pytestmark = needs_openssl


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def party(authority: Authority) -> Party:
    return authority.server()


Serve = Callable[..., socket.socket]


@pytest.fixture
def serve(party: Party) -> Iterator[Serve]:
    """A server that echoes, on the other end of a socket."""
    threads: list[threading.Thread] = []

    def start(alpn: tuple[str, ...] = ("h2",)) -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(party.certificate, party.key)
        context.set_alpn_protocols(list(alpn))
        ours, servers = socket.socketpair()

        def echo() -> None:
            with servers:
                try:
                    with context.wrap_socket(servers, server_side=True) as one:
                        while data := one.recv(2**16):
                            one.sendall(data)
                except OSError:
                    return

        threads.append(threading.Thread(target=echo))
        threads[-1].start()
        return ours

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def secured(plain: socket.socket, trusted: Path, name: str = "localhost", seconds: float = 5) -> SecuredSocket:
    context = TlsOptions(trusted).context()
    return SecuredSocket(plain, context, name=name, server="s:1", deadline=time.monotonic() + seconds)


def test_tells_whose_certificate_it_was_shown(serve: Serve, authority: Authority, party: Party) -> None:
    with secured(serve(), authority.certificate) as one:
        der = ssl.PEM_cert_to_DER_cert(party.certificate.read_text())
        assert one.certificate == hashlib.sha256(der).hexdigest()


def test_passes_all_both_ways_at_once(serve: Serve, authority: Authority) -> None:
    sent = bytes(range(256)) * 4096 * 4
    with secured(serve(), authority.certificate) as one:
        sender = threading.Thread(target=one.sendall, args=(memoryview(sent),))
        sender.start()
        got, buffer = bytearray(), memoryview(bytearray(2**20))
        while len(got) < len(sent):
            count = one.recv_into(buffer)
            assert count
            got += buffer[:count]
        sender.join()
        assert got == sent


@pytest.mark.parametrize(
    ("name", "alpn", "said"),
    [("other.org", ("h2",), "not valid for 'other.org'"), ("localhost", ("http/1.1",), "not speak HTTP/2|protocol")],
)
def test_refuses_another_name_and_another_protocol(
    serve: Serve, authority: Authority, name: str, alpn: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ServerUnavailableError, match=rf"^server s:1 refuses TLS or is not trusted: .*({said})"):
        secured(serve(alpn), authority.certificate, name)


def test_does_not_wait_for_a_silent_server_longer_than_the_deadline(authority: Authority) -> None:
    ours, servers = socket.socketpair()
    with servers, pytest.raises(ServerLostError, match="gave no answer in time"):
        secured(ours, authority.certificate, seconds=0.1)


def test_does_not_wait_for_one_that_drips(authority: Authority) -> None:
    ours, servers = socket.socketpair()

    def drip() -> None:
        record = iter(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb" + bytes(1000))
        while True:
            time.sleep(0.02)
            try:
                servers.sendall(bytes([next(record)]))
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    begin = time.monotonic()
    with pytest.raises(ServerLostError, match="gave no answer in time"):
        secured(ours, authority.certificate, seconds=0.3)
    assert time.monotonic() - begin < 2
    dripping.join(5)
    servers.close()


class Plain:
    """In place of a socket: at each call of `recv`, what `answer` gives."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self.answer, self.closed = answer, False

    def recv(self, count: int) -> bytes:
        return self.answer()

    def sendall(self, data: bytes) -> None:
        pass

    def settimeout(self, seconds: float | None) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_does_not_wait_for_one_that_drips_fast(authority: Authority) -> None:
    """No byte is waited for long, and yet the deadline counts."""
    record = iter(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb" + bytes(1000))

    def drip() -> bytes:
        time.sleep(0.0005)
        return bytes([next(record)])

    plain = Plain(drip)
    with pytest.raises(ServerLostError, match="gave no answer in time"):
        secured(plain, authority.certificate, seconds=0.05)  # type: ignore[arg-type]
    assert plain.closed


def test_says_that_the_way_is_gone(authority: Authority) -> None:
    def gone() -> bytes:
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))

    plain = Plain(gone)
    with pytest.raises(ServerLostError, match=r"^server s:1 cannot be reached: No route to host"):
        secured(plain, authority.certificate)  # type: ignore[arg-type]
    assert plain.closed


@pytest.mark.parametrize("name", [".example.org", "a..example.org", f"{'x' * 64}.example.org"])
def test_says_that_no_certificate_can_be_for_a_name(authority: Authority, name: str) -> None:
    ours, servers = socket.socketpair()
    with servers, pytest.raises(InputError, match=r"^server s:1: no certificate can be for the name '.*example\.org'$"):
        secured(ours, authority.certificate, name)
    assert ours.fileno() == -1


def test_names_plain_text(authority: Authority) -> None:
    ours, servers = socket.socketpair()
    servers.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with servers, pytest.raises(ServerUnavailableError, match="refuses TLS or is not trusted: wrong version number"):
        secured(ours, authority.certificate)


def test_the_certificate_stays_the_one_that_was_shown() -> None:
    assert TlsOptions().context().options & ssl.OP_NO_RENEGOTIATION
