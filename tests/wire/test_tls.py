"""TLS with certificates made for the test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from mixpriv.errors import InputError, ServerUnavailableError
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.transport import GrpcSegmenter
from tests.support.toybundle import write_toy_bundle
from tests.wire.fakeserver import FakeServer, response

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")


@dataclass(frozen=True)
class Party:
    """A self-signed certificate for localhost and its key."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> Party:
        party = cls(folder / f"{name}.pem", folder / f"{name}.key")
        request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", party.key, "-out", party.certificate]
        subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
        return party


@dataclass(frozen=True)
class Secured:
    """A server that asks for the client's certificate on one port and not on the other."""

    fake: FakeServer
    contract: SegmenterContract
    server: Party
    client: Party
    port: int
    mutual_port: int

    def segment(self, host: str, port: int, tls: TlsOptions | None) -> None:
        with GrpcSegmenter(f"{host}:{port}", self.contract, tls=tls, timeout_s=5) as segmenter:
            segmenter.segment(np.zeros((1, 1, 16, 16, 16), np.float16))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    contract = SegmenterContract.of(write_toy_bundle(folder / "toy"))
    fake = FakeServer(contract, lambda context: response(np.zeros((1, 5, 16, 16, 16), np.uint8)))
    server, client = Party.make(folder, "server"), Party.make(folder, "client")
    own = [(server.key.read_bytes(), server.certificate.read_bytes())]
    running = fake.bind()
    port = running.add_secure_port("localhost:0", grpc.ssl_server_credentials(own))
    mutual = grpc.ssl_server_credentials(own, client.certificate.read_bytes(), require_client_auth=True)
    mutual_port = running.add_secure_port("localhost:0", mutual)
    running.start()
    yield Secured(fake, contract, server, client, port, mutual_port)
    running.stop(None).wait()


class TestTls:
    def test_reaches_a_trusted_server(self, secured: Secured) -> None:
        secured.segment("localhost", secured.port, TlsOptions(secured.server.certificate))

    def test_shows_our_certificate(self, secured: Secured) -> None:
        party = secured.client
        secured.segment(
            "localhost", secured.mutual_port, TlsOptions(secured.server.certificate, party.certificate, party.key)
        )

    @pytest.mark.parametrize(
        ("host", "trusted"), [("localhost", "client"), ("127.0.0.1", "server"), ("localhost", None)]
    )
    def test_refuses_a_server_that_is_not_trusted(self, secured: Secured, host: str, trusted: str | None) -> None:
        root = getattr(secured, trusted).certificate if trusted else None
        before = len(secured.fake.requests)
        with pytest.raises(ServerUnavailableError, match="refuses TLS or is not trusted"):
            secured.segment(host, secured.port, TlsOptions(root))
        assert len(secured.fake.requests) == before

    def test_is_refused_without_our_certificate(self, secured: Secured) -> None:
        with pytest.raises(ServerUnavailableError, match="closed the connection"):
            secured.segment("localhost", secured.mutual_port, TlsOptions(secured.server.certificate))

    def test_is_not_mistaken_for_plain_text(self, secured: Secured) -> None:
        with pytest.raises(ServerUnavailableError, match="closed the connection"):
            secured.segment("localhost", secured.port, None)

    def test_checks_that_our_key_is_ours(self, secured: Secured) -> None:
        tls = TlsOptions(secured.server.certificate, secured.client.certificate, secured.server.key)
        with pytest.raises(InputError, match="KEY_VALUES_MISMATCH"):
            secured.segment("localhost", secured.mutual_port, tls)
