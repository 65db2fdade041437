"""Where a server is, and how the way there is protected."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixpriv.errors import InputError

_HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
_UNIX = "unix:"
MESSAGE_LIMIT = 2**31 - 1
"""Bytes in one message, the most that gRPC allows; its default of 4 MiB is less than one volume."""


@dataclass(frozen=True)
class TlsOptions:
    """PEM files for TLS.

    Attributes
    ----------
    root_certificates : whom to trust; None for the well-known authorities
    certificate_chain, private_key : who we are, both or neither (mutual TLS)
    """

    root_certificates: Path | None = None
    certificate_chain: Path | None = None
    private_key: Path | None = None


@dataclass(frozen=True)
class Address:
    """``HOST:PORT`` or ``unix:/path``, checked."""

    text: str
    host: str | None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises
        ------
        InputError
            neither HOST:PORT nor unix:/absolute/path; gRPC's other schemes (proxies, resolvers) are refused too.
        """
        if text.startswith(_UNIX + "/"):
            return cls(text, None)
        match = _HOST_PORT.fullmatch(text)
        if not match or not 0 < int(match["port"]) < 2**16:
            raise InputError(f"server address {text!r}: expected HOST:PORT or unix:/path")
        return cls(text, match["host"].strip("[]"))

    @property
    def is_local(self) -> bool:
        """Whether what is sent there stays on this machine."""
        if self.host is None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def open_channel(address: Address, tls: TlsOptions | None, *, insecure: bool = False) -> Any:
    """A gRPC channel; nothing is sent yet.

    TLS is used wherever it is asked for by `tls`, and always when the address is not on this machine, unless
    `insecure` says that plain text is wanted.

    Raises
    ------
    InputError
        both `tls` and `insecure`, or a certificate file that is unreadable or does not belong to its key.
    """
    import grpc

    if tls is not None and insecure:
        raise InputError("tls and insecure exclude each other")
    secure = tls is not None or not (address.is_local or insecure)
    options = [
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        # Finds a peer that vanished without a word. More pings without data would be answered by "too_many_pings".
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 2),
        # A request that gRPC repeats on a new connection would meet a server that was not checked.
        ("grpc.enable_retries", 0),
        # A proxy named in the environment must not see plain text.
        ("grpc.enable_http_proxy", int(secure)),
    ]
    if not secure:
        return grpc.insecure_channel(address.text, options=options)
    return grpc.secure_channel(address.text, _credentials(grpc, tls or TlsOptions()), options=options)


def _credentials(grpc: Any, tls: TlsOptions) -> Any:
    """Check our own files first: what a server says about a bad certificate is only "Socket closed"."""
    if (tls.certificate_chain is None) != (tls.private_key is None):
        raise InputError("tls: certificate_chain and private_key belong together, got one of them")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.root_certificates is not None:
        _checked(tls.root_certificates, lambda path: context.load_verify_locations(path))
    if tls.certificate_chain is not None:
        key = tls.private_key
        _checked(tls.certificate_chain, lambda path: context.load_cert_chain(path, key, password=_no_password))
    return grpc.ssl_channel_credentials(
        *(path and path.read_bytes() for path in (tls.root_certificates, tls.private_key, tls.certificate_chain))
    )


def _no_password() -> str:
    raise InputError("tls: the private key is encrypted, expected one without a password")


def _checked(path: Path, load: Any) -> None:
    try:
        load(path)
    except ssl.SSLError as error:
        raise InputError(f"tls: {path}: not a usable PEM certificate ({error.reason or 'unreadable'})") from None
    except OSError as error:
        raise InputError(f"tls: {path} or its key: {error.strerror}") from None
