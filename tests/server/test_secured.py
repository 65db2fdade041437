"""The profile ``node`` on a real tritonserver: who gets in, what is said to who does not, and what a listener sees."""

from __future__ import annotations

import importlib.util
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.cli.server.main import main
from mixpriv.errors import InputError, ServerUnavailableError
from mixpriv.server import health
from mixpriv.server.access import Access, ServerTls
from mixpriv.server.triton import TritonServer
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.token import Token
from mixpriv.wire.transport import GrpcSegmenter
from tests.server.commands import address_when_ready, command
from tests.support.certificates import Authority, Party, needs_openssl

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra"),
    needs_openssl,
]
TOKEN = Token("a-token-for-the-tests")
EXPIRED = {"not_before": "20200101000000Z", "not_after": "20200201000000Z"}


@dataclass(frozen=True)
class Node:
    """A server that asks for a certificate and a token, and what is needed to get in."""

    server: TritonServer
    bundle: Bundle
    authority: Authority
    client: Party
    port: int

    def segment(
        self,
        *,
        host: str = "localhost",
        port: int | None = None,
        party: Party | None = None,
        tls: bool = True,
        token: Token | None = TOKEN,
        trust: Path | None = None,
    ) -> np.ndarray:
        options = TlsOptions(trust or self.authority.certificate, *(party and (party.certificate, party.key)) or ())
        how = {"tls": options if tls else None, "token": token, "timeout_s": 5.0}
        with GrpcSegmenter(f"{host}:{port or self.port}", SegmenterContract.of(self.bundle), **how) as segmenter:
            return segmenter.segment(recognisable())


def recognisable() -> np.ndarray:
    """A mixture whose bytes are not met by chance."""
    return np.random.default_rng(0).random((1, 1, 64, 80, 64), np.float32).astype(np.float16)


@pytest.fixture(scope="module")
def node(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    authority = Authority(tmp_path_factory.mktemp("pki"))
    own, client, probe = authority.server(), authority.client(), authority.client("probe")
    tls = ServerTls(own.certificate, own.key, authority.certificate, (probe.certificate, probe.key))
    access = Access(tls, TOKEN)
    with TritonServer(bundle, host="127.0.0.1", port=0, access=access, stop_timeout_s=0) as server:
        yield Node(server, bundle, authority, client, int(server.address.rpartition(":")[2]))


class TestGetsIn:
    def test_who_has_both(self, node: Node) -> None:
        assert node.segment(party=node.client).shape == (1, 5, 64, 80, 64)

    def test_the_server_itself(self, node: Node) -> None:
        assert health.probe(node.server) is None
        served = health.statistics(node.server)
        assert served is not None
        assert served.requests > 0


class TestIsRefused:
    """And nothing of the mixture leaves: every refusal comes before the first request with voxels."""

    def test_without_a_certificate(self, node: Node) -> None:
        with pytest.raises(ServerUnavailableError, match="closed the connection"):
            node.segment()

    def test_with_an_expired_certificate_before_anything_is_sent(self, node: Node) -> None:
        old = node.authority.client("old", **EXPIRED)
        with pytest.raises(InputError, match=r"old\.pem: no peer would accept it: certificate has expired"):
            node.segment(party=old)

    def test_with_a_certificate_of_another_authority(self, node: Node, tmp_path: Path) -> None:
        stranger = Authority(tmp_path, "stranger").client()
        with pytest.raises(ServerUnavailableError, match="closed the connection"):
            node.segment(party=stranger)

    @pytest.mark.parametrize("token", [None, Token("another-token-0123")])
    def test_without_the_right_token(self, node: Node, token: Token | None) -> None:
        with pytest.raises(ServerUnavailableError, match="refuses us: it expects a token"):
            node.segment(party=node.client, token=token)

    def test_in_plain_text(self, node: Node) -> None:
        with pytest.raises(ServerUnavailableError, match="closed the connection"):
            node.segment(tls=False)


class TestRefuses:
    """A client, a server that is not the right one."""

    def test_with_another_name(self, node: Node) -> None:
        with pytest.raises(ServerUnavailableError, match=r"not trusted: .*127\.0\.0\.1"):
            node.segment(host="127.0.0.1", party=node.client)

    def test_of_another_authority(self, node: Node, tmp_path: Path) -> None:
        with pytest.raises(ServerUnavailableError, match="refuses TLS or is not trusted"):
            node.segment(party=node.client, trust=Authority(tmp_path, "stranger").certificate)

    def test_that_speaks_plain_text(self, node: Node, bundle: Bundle) -> None:
        with TritonServer(bundle, host="127.0.0.1", port=0, stop_timeout_s=0) as plain:
            port = int(plain.address.rpartition(":")[2])
            with pytest.raises(ServerUnavailableError, match=r"refuses TLS or is not trusted|closed the connection"):
                node.segment(party=node.client, port=port)


class Relay:
    """Stands between client and server and keeps all that passes."""

    def __init__(self, port: int) -> None:
        self.seen = bytearray()
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with source, target:
            try:
                while data := source.recv(2**16):
                    self.seen += data
                    target.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


class TestListener:
    def test_sees_nothing_through_tls_and_all_without(self, node: Node, bundle: Bundle) -> None:
        name, voxels = bundle.model_name.encode(), recognisable().tobytes()[:64]
        relay = Relay(node.port)
        answer = node.segment(party=node.client, port=relay.port)
        relay.close()
        assert len(relay.seen) > answer.nbytes
        for secret in (name, voxels, answer.tobytes()[:64], TOKEN.text.encode()):
            assert secret not in relay.seen
        with TritonServer(bundle, host="127.0.0.1", port=0, stop_timeout_s=0) as plain:
            open_relay = Relay(int(plain.address.rpartition(":")[2]))
            node.segment(tls=False, port=open_relay.port, host="127.0.0.1")
            open_relay.close()
        assert name in open_relay.seen
        assert voxels in open_relay.seen


class TestCommand:
    def test_serves_other_machines(self, bundle: Bundle, node: Node, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(TOKEN.text)
        (tmp_path / "token").chmod(0o600)
        own = node.authority.server()
        options = [
            *("--profile", "node", "--host", "0.0.0.0", "--port", "0", "--threads", "1"),
            *("--tls-cert", str(own.certificate), "--tls-key", str(own.key)),
            *("--tls-clients", str(node.authority.certificate), "--token-file", str(tmp_path / "token")),
        ]
        with command(bundle, *options) as process:
            port = address_when_ready(process).rpartition(":")[2]
            check = [
                *("check", "--bundle", str(bundle.directory), "--server", f"localhost:{port}"),
                *("--tls-ca", str(node.authority.certificate), "--token-file", str(tmp_path / "token")),
            ]
            party = ["--tls-cert", str(node.client.certificate), "--tls-key", str(node.client.key)]
            assert main([*check, *party]) == 0
            assert main(check) == 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0

    @pytest.mark.parametrize(
        ("which", "message"),
        [("expired", "certificate has expired"), ("client", "purpose"), ("missing", "No such file or directory")],
    )
    def test_checks_its_files_first(self, bundle: Bundle, node: Node, which: str, message: str) -> None:
        party = {
            "expired": node.authority.server("old", **EXPIRED),
            "client": node.client,
            "missing": Party(Path("/none.pem"), Path("/none.key")),
        }[which]
        options = ["--tls-cert", str(party.certificate), "--tls-key", str(party.key)]
        with command(bundle, *options, "--tls-clients", str(node.authority.certificate)) as process:
            _, said = process.communicate(timeout=20)
        assert process.returncode == 2
        assert message in said
        assert said.count("\n") == 1
