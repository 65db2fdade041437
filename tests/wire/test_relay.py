"""One connection and never a second."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixpriv.wire.relay import Relay

GONE = r"refused|No such file"


@pytest.fixture(params=["linux", "elsewhere"])
def relay(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Relay]:
    """Between a client that may come and a server that echoes."""
    if request.param != "linux":
        monkeypatch.setattr("mixpriv.wire.relay.sys.platform", "darwin")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours, servers = socket.socketpair()
    threading.Thread(target=echo, args=(servers,), daemon=True).start()
    relay = Relay(ours)
    yield relay
    relay.close()
    assert list(tmp_path.iterdir()) == []


def echo(one: socket.socket) -> None:
    with one:
        while data := one.recv(2**16):
            one.sendall(data)


def connected(relay: Relay) -> socket.socket:
    scheme, _, name = relay.target.partition(":")
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    try:
        client.connect("\0" + name if scheme == "unix-abstract" else name)
    except OSError:
        client.close()
        raise
    return client


class TestRelay:
    def test_passes_bytes_both_ways(self, relay: Relay) -> None:
        relay.allow(10**7)
        sent = bytes(range(256)) * 4096
        with connected(relay) as client:
            threading.Thread(target=client.sendall, args=(sent,), daemon=True).start()
            with client.makefile("rb") as stream:
                assert stream.read(len(sent)) == sent

    def test_lets_nobody_in_twice(self, relay: Relay) -> None:
        relay.allow(100)
        with connected(relay) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            with pytest.raises(OSError, match=GONE):
                connected(relay)
        assert relay.ended.wait(5)
        with pytest.raises(OSError, match=GONE):
            connected(relay)

    def test_passes_no_more_than_is_allowed(self, relay: Relay) -> None:
        relay.allow(1000)
        with connected(relay) as client:
            client.sendall(bytes(900))
            with client.makefile("rb") as stream:
                assert len(stream.read(900)) == 900
                client.sendall(bytes(200))
                assert len(stream.read()) < 200
        assert relay.ended.wait(5)
        assert relay.overrun

    def test_ends_when_it_is_cut(self, relay: Relay) -> None:
        relay.allow(100)
        with connected(relay) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            relay.cut()
            assert client.recv(1) == b""
        assert relay.ended.wait(5)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a folder of mode 0700 keeps others out")
class TestOthers:
    def test_are_not_let_in(self) -> None:
        ours, servers = socket.socketpair()
        relay = Relay(ours)
        relay.allow(100)
        name = relay.target.partition(":")[2]
        other = (
            "import socket; s = socket.socket(socket.AF_UNIX)\n"
            f"s.connect('\\0{name}'); s.sendall(b'x'); print(s.recv(9))"
        )
        said = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, timeout=30, check=False)
        assert said.stdout in ("", "b''\n")
        with connected(relay) as client, servers:
            client.sendall(b"ours")
            assert servers.recv(9) == b"ours"
        relay.close()

    def test_cannot_take_its_place(self) -> None:
        """gRPC looks again for a connection that has ended: whoever were there then would get what it sends."""
        ours, servers = socket.socketpair()
        with servers, socket.socket(socket.AF_UNIX) as taker:
            relay = Relay(ours)
            connected(relay).close()
            assert relay.ended.wait(5)
            with pytest.raises(OSError, match="in use"):
                taker.bind("\0" + relay.target.partition(":")[2])
            relay.close()
