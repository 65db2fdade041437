"""What the commands that connect to a server have in common."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from mixpriv.wire.tls import TlsOptions
    from mixpriv.wire.token import Token


def add_connection_options(group: Any) -> None:
    """How long a server is waited for, who it must be, and who we are."""
    group.add_argument("--timeout", type=seconds, metavar="SECONDS", help="longest wait for one answer (default 120)")
    group.add_argument("--insecure", action="store_true", help="no TLS to another machine")
    group.add_argument("--tls-ca", type=Path, metavar="PEM", help="trust servers certified by this authority")
    group.add_argument("--tls-cert", type=Path, metavar="PEM", help="our own certificate, with --tls-key")
    group.add_argument("--tls-key", type=Path, metavar="PEM", help="our own private key")
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds the token that the server asks for (or $MIXPRIV_TOKEN)"
    )


class Connection(TypedDict):
    """What `GrpcSegmenter` and `ServerPool` are told beside an address."""

    timeout_s: float
    tls: TlsOptions | None
    insecure: bool
    token: Token | None


def connection(given: argparse.Namespace, *, timeout_s: float) -> Connection:
    """How a command line wants to connect; `timeout_s` where it does not say.

    Raises
    ------
    InputError
        the token is not usable.
    """
    from mixpriv.wire.tls import TlsOptions
    from mixpriv.wire.token import Token

    tls = TlsOptions(given.tls_ca, given.tls_cert, given.tls_key)
    return {
        "timeout_s": given.timeout or timeout_s,
        "tls": None if tls == TlsOptions() else tls,
        "insecure": given.insecure,
        "token": Token.load(given.token_file),
    }


def seconds(text: str) -> float:
    """A time on the command line, more than 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0, got {text!r}")
    return number
