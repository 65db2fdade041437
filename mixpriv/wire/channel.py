"""A gRPC channel: limits, keep-alive, and plain text only where it stays on this machine."""

from __future__ import annotations

from typing import Any

from mixpriv.errors import InputError
from mixpriv.wire.address import Address
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.token import Token

MESSAGE_LIMIT = 2**31 - 1
"""Bytes in one message, the most that gRPC allows; its default of 4 MiB is less than one volume."""

KEEPALIVE_S = 30.0
"""Between pings on a connection whose server computes."""

KEEPALIVE_TIMEOUT_S = 10.0
"""A ping not answered for so long ends the connection: the peer vanished without a word, or stands still."""


def open_channel(
    address: Address, tls: TlsOptions | None, *, insecure: bool = False, token: Token | None = None
) -> Any:
    """A gRPC channel; nothing is sent yet.

    TLS is used wherever it is asked for by `tls`, and always when the address is not on this machine, unless
    `insecure` says that plain text is wanted.

    Raises
    ------
    InputError
        both `tls` and `insecure`, a certificate file that is unreadable, expired or does not belong to its key, or a
        token that would go to another machine in plain text.
    """
    import grpc

    if tls is not None and insecure:
        raise InputError("tls and insecure exclude each other")
    secure = tls is not None or not (address.is_local or insecure)
    if token is not None and not secure and not address.is_local:
        raise InputError("token: expected TLS to another machine, got insecure: plain text would give the token away")
    tls = (tls or TlsOptions()) if secure else None
    options = _options(address, tls)
    if tls is None:
        return grpc.insecure_channel(address.text, options=options)
    return grpc.secure_channel(address.text, tls.credentials(), options=options)


def _options(address: Address, tls: TlsOptions | None) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        # Finds a peer that vanished without a word. More pings without data would be answered by "too_many_pings".
        ("grpc.keepalive_time_ms", round(KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.http2.max_pings_without_data", 2),
        # A request that gRPC repeats on a new connection would meet a server that was not checked.
        ("grpc.enable_retries", 0),
        # When to repeat one is ours to decide; a connection must then be tried, not answered from memory.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A proxy named in the environment must not see plain text.
        ("grpc.enable_http_proxy", int(tls is not None)),
    ]
    name = (tls and tls.server_name) or address.name
    if name is not None:
        options.append(("grpc.default_authority" if tls is None else "grpc.ssl_target_name_override", name))
    return options
