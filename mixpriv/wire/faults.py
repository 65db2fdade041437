"""From a failed call to what the user can do about it: by the failure's meaning, since Triton's status tells little.

A wrong token, a full queue, a queue time-out and refused TLS all arrive as UNAVAILABLE. `ServerBusyError` and
`ServerLostError` say that the same request may be sent again.
"""

from __future__ import annotations

from mixpriv.errors import (
    IncompatibleServerError,
    MixprivError,
    ServerBusyError,
    ServerLostError,
    ServerUnavailableError,
    printable,
)

_MEANINGS: tuple[tuple[str, type[MixprivError], str], ...] = (
    ("maximum queue size", ServerBusyError, "is busy: its queue is full"),
    ("request timeout expired", ServerBusyError, "is busy: the request waited too long in its queue"),
    ("quota is used up", ServerBusyError, "is busy with this site's other requests"),
    ("protocol is restricted", ServerUnavailableError, "refuses us: it expects a token, or another one"),
    ("no available versions", ServerLostError, "has the model, but it is not loaded"),
    ("stub process", ServerLostError, "has lost its model process"),
    ("socket closed", ServerLostError, "closed the connection: it broke off, or expects TLS or another certificate"),
    ("watchdog", ServerLostError, "stands still or vanished"),
    ("handshake", ServerUnavailableError, "refuses TLS or is not trusted"),
    ("verification", ServerUnavailableError, "refuses TLS or is not trusted"),
    ("peer certificate", ServerUnavailableError, "refuses TLS or is not trusted"),
    ("compression algorithm", IncompatibleServerError, "answers in a compressed form, which could fill the memory"),
    ("unknown model", IncompatibleServerError, "does not serve this client's network"),
)
"""Words in the details, in lower case; the first that fits decides."""

_STATUSES: dict[str, tuple[type[MixprivError], str]] = {
    "DEADLINE_EXCEEDED": (ServerLostError, "gave no answer in time"),
    "UNAVAILABLE": (ServerLostError, "cannot be reached or closed the connection"),
    "UNAUTHENTICATED": (ServerUnavailableError, "refuses us"),
    "PERMISSION_DENIED": (ServerUnavailableError, "refuses us"),
    "NOT_FOUND": (IncompatibleServerError, "does not serve this client's network"),
    "INVALID_ARGUMENT": (IncompatibleServerError, "does not accept the request's form"),
    "UNIMPLEMENTED": (IncompatibleServerError, "does not speak KServe v2 over gRPC"),
}


def fault(address: str, status: str, details: str) -> MixprivError:
    """The error to raise for a gRPC status (its name) and details.

    Examples
    --------
    >>> fault("seg.example.org:8001", "UNAVAILABLE", "exceeds maximum queue size")
    ServerBusyError('server seg.example.org:8001 is busy: its queue is full: exceeds maximum queue size')
    """
    kind, meaning = _STATUSES.get(status, (ServerUnavailableError, f"failed ({status})"))
    for words, meant_kind, meant in _MEANINGS:
        if words in details.lower():
            kind, meaning = meant_kind, meant
            break
    # gRPC tells the cause last, Triton first.
    said = printable(details.rpartition("last error: ")[2].strip().partition("\n")[0], 160)
    return kind(f"server {address} {meaning}" + (f": {said}" if said else ""))
