from __future__ import annotations

import pytest

from mixpriv.errors import IncompatibleServerError, ServerBusyError, ServerLostError, ServerUnavailableError
from mixpriv.wire.faults import fault

REFUSED = ServerUnavailableError
BUSY = ServerBusyError
LOST = ServerLostError
OTHER = IncompatibleServerError
# What tritonserver 2.51 and gRPC say, and what it means.
KNOWN = [
    ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size", BUSY, "is busy: its queue is full"),
    ("UNAVAILABLE", "Request timeout expired", BUSY, "waited too long in its queue"),
    (
        "UNAVAILABLE",
        "This protocol is restricted, expecting header 'triton-grpc-protocol-t'",
        REFUSED,
        "it expects a token",
    ),
    ("UNAVAILABLE", "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", REFUSED, "refuses TLS or is not trusted"),
    ("UNAVAILABLE", "Peer name a.b is not in peer certificate", REFUSED, "refuses TLS or is not trusted"),
    ("INTERNAL", "Compression algorithm 'gzip' is disabled.", OTHER, "answers in a compressed form"),
    ("UNAVAILABLE", "Socket closed", LOST, "closed the connection: it broke off, or expects TLS"),
    ("UNAVAILABLE", "failed to connect: Connection refused", LOST, "cannot be reached"),
    ("UNAVAILABLE", "keepalive watchdog timeout", LOST, "stands still or vanished"),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", LOST, "gave no answer in time"),
    (
        "INTERNAL",
        "Failed to process the request(s), message: Stub process 'm_0_0' is not healthy.",
        LOST,
        "model process",
    ),
    (
        "NOT_FOUND",
        "Request for unknown model: 'm' version 7 is not found",
        OTHER,
        "does not serve this client's network",
    ),
    ("UNIMPLEMENTED", "", OTHER, "does not speak KServe v2"),
    ("INVALID_ARGUMENT", "unexpected shape for input 'mixture'", OTHER, "does not accept the request's form"),
    ("DATA_LOSS", "", REFUSED, r"failed \(DATA_LOSS\)"),
]


@pytest.mark.parametrize(("status", "details", "kind", "message"), KNOWN)
def test_meaning_decides(status: str, details: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"server here:1 .*{message}") as caught:
        raise fault("here:1", status, details)
    assert caught.type is kind  # the kind says whether to ask again


def test_what_the_server_said_is_one_short_line() -> None:
    said = str(fault("here:1", "INTERNAL", "first\x1b[2J\n" + "second" * 100))
    assert said == r"server here:1 failed (INTERNAL): first\x1b[2J"
