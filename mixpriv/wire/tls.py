"""Who we are and whom we trust, checked before anything is sent: what a peer says about it is only "Socket closed"."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixpriv.errors import InputError
from mixpriv.wire.private import check_private

_FLIGHTS = 6
"""More than any handshake takes."""


@dataclass(frozen=True)
class TlsOptions:
    """PEM files for TLS.

    Attributes
    ----------
    root_certificates : whom to trust; None for those that this system trusts
    certificate_chain, private_key : who we are, both or neither (mutual TLS)
    server_name : the name that the server's certificate must have; None for the address's own
    """

    root_certificates: Path | None = None
    certificate_chain: Path | None = None
    private_key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("root_certificates", "certificate_chain", "private_key"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))

    def check(self) -> None:
        """Judge the files before they are used.

        Raises
        ------
        InputError
            a file is unreadable, our certificate does not belong to its key, or no server could accept it now.
        """
        if (self.certificate_chain is None) != (self.private_key is None):
            raise InputError("tls: certificate_chain and private_key belong together, got one of them")
        if self.root_certificates is not None:
            check_authorities(self.root_certificates)
        if self.certificate_chain is not None and self.private_key is not None:
            check_identity(self.certificate_chain, self.private_key)

    def credentials(self) -> Any:
        """Credentials for a gRPC channel; see `check`."""
        import grpc

        self.check()
        return grpc.ssl_channel_credentials(
            *(path and path.read_bytes() for path in (self.root_certificates, self.private_key, self.certificate_chain))
        )

    def context(self) -> ssl.SSLContext:
        """The same for TLS of our own; see `check`."""
        self.check()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        # It may show another certificate than the one that was noted, and HTTP/2 forbids it.
        context.options |= ssl.OP_NO_RENEGOTIATION
        # Whom the user names is trusted, also where it is no authority but the server itself.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.root_certificates is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(self.root_certificates)
        if self.certificate_chain is not None:
            context.load_cert_chain(self.certificate_chain, self.private_key, password=_no_password)
        return context


def check_authorities(path: Path) -> None:
    """Check that a PEM file holds certificates; InputError if not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _checked(path, lambda: context.load_verify_locations(path))


def check_identity(chain: Path, key: Path, *, of_server: bool = False) -> tuple[str, ...]:
    """Check a certificate as the other side will: it belongs to the key, is valid now and made for this use.

    Returns
    -------
    the names and addresses that it is for

    Raises
    ------
    InputError
        it is not so, or others may read the key; the message names the file and says what is wrong with it.
    """
    _checked(key, lambda: check_private(key.stat(), "tls", key))
    # We shake hands with ourselves: the side whose certificate is checked, and one that trusts just that certificate.
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if of_server else ssl.PROTOCOL_TLS_CLIENT)
    judge = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if of_server else ssl.PROTOCOL_TLS_SERVER)
    _checked(chain, lambda: shown.load_cert_chain(chain, key, password=_no_password))
    client = judge if of_server else shown
    client.check_hostname = False
    if not of_server:
        client.verify_mode = ssl.CERT_NONE
        _checked(chain, lambda: judge.load_cert_chain(chain, key, password=_no_password))
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    judge.load_verify_locations(chain)
    try:
        certificate = _shake_hands(shown, judge, of_server=of_server)
    except ssl.SSLCertVerificationError as error:
        raise InputError(f"tls: {chain}: no peer would accept it: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise InputError(f"tls: {chain}: not usable ({error.reason or 'unreadable'})") from None
    return tuple(str(name) for _, name in certificate.get("subjectAltName", ()))


def _shake_hands(shown: ssl.SSLContext, judge: ssl.SSLContext, *, of_server: bool) -> Any:
    """Shake hands in memory; returns what the judge has learnt of the other's certificate."""
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    first = shown.wrap_bio(one, other, server_side=of_server)
    second = judge.wrap_bio(other, one, server_side=not of_server)
    for _ in range(_FLIGHTS):
        for side in (first, second):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return second.getpeercert()


def _no_password() -> str:
    raise InputError("tls: the private key is encrypted, expected one without a password")


def _checked(path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        raise InputError(f"tls: {path}: not a usable PEM certificate ({error.reason or 'unreadable'})") from None
    except OSError as error:
        raise InputError(f"tls: {path} or its key: {error.strerror}") from None
