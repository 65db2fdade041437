"""Fake servers that listen, with TLS or without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from tests.support.certificates import Party
from tests.wire.fakeserver import FakeServer


@contextmanager
def listening(fake: FakeServer, host: str = "127.0.0.1", party: Party | None = None) -> Iterator[str]:
    """Start a server; its address."""
    running = fake.bind()
    if party is None:
        port = running.add_insecure_port(f"{host}:0")
    else:
        own = grpc.ssl_server_credentials([(party.key.read_bytes(), party.certificate.read_bytes())])
        port = running.add_secure_port(f"{host}:0", own)
    running.start()
    yield f"{host}:{port}"
    running.stop(None).wait()
