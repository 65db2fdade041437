"""To whom a tritonserver answers, and what: certificates, tokens, and the protocols that nobody needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from mixpriv.wire.tls import TlsOptions, check_authorities, check_identity
from mixpriv.wire.token import TOKEN_KEY, Token

_FOR_CLIENTS = "inference,model-config"
_FOR_NOBODY = "health,metadata,shared-memory,model-repository,statistics,trace,logging"


class ClientSide(TypedDict):
    """What `GrpcSegmenter` is told to be let in."""

    tls: TlsOptions | None
    token: Token | None


@dataclass(frozen=True)
class ServerTls:
    """PEM files of a server.

    Attributes
    ----------
    certificate, private_key : who the server is
    clients : the authority that certifies clients (mutual TLS); None to let everybody in
    probe : certificate and key of a client, with which the server asks itself whether it is well
    """

    certificate: Path
    private_key: Path
    clients: Path | None = None
    probe: tuple[Path, Path] | None = None

    def check(self) -> None:
        """Check the files; InputError says what is wrong. Triton would call a bad one an address in use."""
        check_identity(self.certificate, self.private_key, of_server=True)
        if self.clients is not None:
            check_authorities(self.clients)
        if self.probe is not None:
            check_identity(*self.probe)

    def options(self) -> list[str]:
        """Triton's options."""
        options = [
            "--grpc-use-ssl=true",
            f"--grpc-server-cert={self.certificate.resolve()}",
            f"--grpc-server-key={self.private_key.resolve()}",
        ]
        if self.clients is not None:
            options += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={self.clients.resolve()}"]
        return options

    def client_side(self) -> TlsOptions | None:
        """How the server itself gets in, trusting just its own certificate; None if it has none of a client's."""
        if self.clients is not None and self.probe is None:
            return None
        names = check_identity(self.certificate, self.private_key, of_server=True)
        chain, key = self.probe or (None, None)
        return TlsOptions(self.certificate, chain, key, names[0] if names else None)


@dataclass(frozen=True)
class Access:
    """What a server asks of its clients.

    Attributes
    ----------
    tls : None for plain text
    token : what clients must tell; None for nothing
    """

    tls: ServerTls | None = None
    token: Token | None = None

    def options(self) -> list[str]:
        """Triton's options; none of them is secret."""
        return self.tls.options() if self.tls else []

    def restrictions(self, admin: Token) -> list[str]:
        """Secret values of ``--grpc-restricted-protocol``: who tells which token gets what."""
        restrictions = [f"{_FOR_NOBODY}:{TOKEN_KEY}={admin.text}"]
        if self.token is not None:
            restrictions.append(f"{_FOR_CLIENTS}:{TOKEN_KEY}={self.token.text}")
        return restrictions

    def client_side(self) -> ClientSide | None:
        """How the server itself gets in; None if it cannot."""
        if self.tls is None:
            return ClientSide(tls=None, token=self.token)
        tls = self.tls.client_side()
        return None if tls is None else ClientSide(tls=tls, token=self.token)
