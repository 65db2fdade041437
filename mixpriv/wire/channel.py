"""gRPC channels: limits, keep-alive, and plain text only where it stays on this machine."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

from mixpriv.errors import InputError
from mixpriv.wire.address import UNIX, Address
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.token import Token

MESSAGE_LIMIT = 2**31 - 1
"""Bytes in one message, the most that gRPC allows; its default of 4 MiB is less than one volume."""

KEEPALIVE_S = 30.0
"""Between pings on a connection whose server computes."""

KEEPALIVE_TIMEOUT_S = 10.0
"""A ping not answered for so long ends the connection: the peer vanished without a word, or stands still."""


@dataclass(frozen=True)
class ChannelSettings:
    """How channels to one server are opened, checked before anything is sent.

    Attributes
    ----------
    tls : None for plain text
    context : for TLS of our own; None for plain text
    """

    address: Address
    tls: TlsOptions | None
    context: ssl.SSLContext | None
    options: tuple[tuple[str, Any], ...]

    @classmethod
    def of(
        cls, address: Address, tls: TlsOptions | None, *, insecure: bool = False, token: Token | None = None
    ) -> ChannelSettings:
        """The settings for an address.

        TLS is used wherever it is asked for by `tls`, and always when the address is not on this machine, unless
        `insecure` says that plain text is wanted.

        Raises
        ------
        InputError
            both `tls` and `insecure`, a certificate file that is unreadable, expired or does not belong to its key, a
            key that others may know, or a token that would go to another machine in plain text.
        """
        if tls is not None and insecure:
            raise InputError("tls and insecure exclude each other")
        secure = tls is not None or not (address.is_local or insecure)
        if token is not None and not secure and not address.is_local:
            raise InputError(
                "token: expected TLS to another machine, got insecure: plain text would give the token away"
            )
        tls = (tls or TlsOptions()) if secure else None
        return cls(address, tls, tls.context() if tls else None, tuple(_options(address, tls)))

    @property
    def name(self) -> str:
        """What the server's certificate must be for."""
        return (self.tls and self.tls.server_name) or self.address.name or self.address.host or "localhost"

    def open(self) -> Any:
        """A gRPC channel straight to the address; nothing is sent yet."""
        import grpc

        if self.tls is None:
            return grpc.insecure_channel(self.address.text, options=list(self.options))
        options = [*self.options, ("grpc.ssl_target_name_override", self.name)]
        return grpc.secure_channel(self.address.text, self.tls.credentials(), options=options)

    def open_through(self, target: str) -> Any:
        """A gRPC channel to what stands for the address, and has TLS beyond where there is any."""
        import grpc

        scheme = "http" if self.tls is None else "https"
        return grpc.insecure_channel(target, options=[*self.options, ("grpc.http2_scheme", scheme)])


def open_channel(
    address: Address, tls: TlsOptions | None, *, insecure: bool = False, token: Token | None = None
) -> Any:
    """A gRPC channel straight to a server, for what is no secret; see `ChannelSettings.of`."""
    return ChannelSettings.of(address, tls, insecure=insecure, token=token).open()


def _options(address: Address, tls: TlsOptions | None) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        # A small compressed answer could fill the memory; volumes of probabilities are not asked for in that form.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # Finds a peer that vanished without a word. More pings without data would be answered by "too_many_pings".
        ("grpc.keepalive_time_ms", round(KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.http2.max_pings_without_data", 2),
        # When to repeat a request, and to whom, is ours to decide.
        ("grpc.enable_retries", 0),
        # A proxy must not see plain text; for TLS `dial` finds it.
        ("grpc.enable_http_proxy", 0),
    ]
    # As they would be if gRPC itself connected to the address.
    name = (tls and tls.server_name) or address.name
    if not address.text.startswith(UNIX):
        options.append(("grpc.default_authority", name or address.text))
    return options
