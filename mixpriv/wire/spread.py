"""Servers of operators that are trusted apart: each gets one request of a scan, and none gets two.

It hides what several requests tell together from operators that do not collude, and from no others.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTimeError
from contextlib import ExitStack
from functools import partial
from types import TracebackType

from mixpriv.errors import InputError
from mixpriv.wire.address import PROXIES, Address
from mixpriv.wire.background import started
from mixpriv.wire.connection import Connection
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.token import Token
from mixpriv.wire.transport import CHECK_TIMEOUT_S, DEFAULT_TIMEOUT_S


class Spread:
    """Operators, each with servers of its own, as a context manager; for one thread at a time.

    Who gets which request depends on the names alone, not on their order: the same request goes to the same operator.

    Parameters
    ----------
    addresses : one of each operator; a name may stand for several servers of one operator
    count : requests of a scan; the operators beyond are not asked
    contract, timeout_s, tls, insecure, token : as of `ServerPool`

    Raises
    ------
    InputError
        fewer operators than requests, fewer than two requests, a Unix socket, or two operators with one address.
    """

    leaves_machine = True

    def __init__(
        self,
        addresses: Sequence[Address],
        count: int,
        contract: SegmenterContract,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsOptions | None = None,
        insecure: bool = False,
        token: Token | None = None,
    ) -> None:
        if count < 2:
            raise InputError(f"spread: expected 2 references or more, got {count}: one request has nothing to spread")
        if count > len(addresses):
            raise InputError(f"spread: expected a server for each of {count} references, got {len(addresses)}")
        operators = sorted(addresses, key=lambda address: address.text)
        self._owners = _Owners()
        for address, found in _looked_up(operators, min(timeout_s, CHECK_TIMEOUT_S)):
            for identity in (f"name:{str(address.host).lower().rstrip('.')}", *(f"address:{ip}" for ip in found)):
                self._owners.claim(address.text, identity)
        how = {"timeout_s": timeout_s, "tls": tls, "insecure": insecure, "token": token}
        self._pools = [
            ServerPool([one], contract, admit=partial(self._admit, one.text), **how)  # type: ignore[arg-type]
            for one in operators[:count]
        ]
        self.address = ",".join(pool.address for pool in self._pools)

    def __enter__(self) -> Spread:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        with ExitStack() as stack:
            for pool in self._pools:
                stack.callback(pool.close)

    def check(self) -> None:
        """Reach every operator, before any of them gets a voxel.

        Raises
        ------
        IncompatibleServerError, ServerUnavailableError
            one of them cannot be used.
        InputError
            two of them show one certificate, or are one address.
        """
        for checked in [started(pool.check) for pool in self._pools]:
            checked.result()

    def recipient(self, number: int) -> ServerPool:
        """The operator that gets a scan's request of this number, from 0."""
        return self._pools[number]

    def domain(self, number: int) -> str:
        """What this operator is known by, for the ledger: its name, addresses and certificates, in a fixed order."""
        return self._owners.known(self._pools[number].address)

    def _admit(self, operator: str, connection: Connection) -> None:
        """Refuse a connection to what is another operator's, whatever a name meant before."""
        if connection.certificate is not None:
            self._owners.claim(operator, f"certificate:{connection.certificate}")
        proxied = connection.certificate is not None and any(map(os.environ.get, PROXIES))
        if connection.peer is not None and not proxied:  # else it is the proxy's, and the certificate tells
            self._owners.claim(operator, f"address:{_plain(connection.peer)}")


class _Owners:
    """Which operator an address, a name or a certificate belongs to."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._claiming = threading.Lock()

    def claim(self, operator: str, identity: str) -> None:
        with self._claiming:
            owner = self._owners.setdefault(identity, operator)
        if owner != operator:
            kind, _, what = identity.partition(":")
            raise InputError(
                f"spread: {owner} and {operator} have one {kind} ({what}): expected operators that are not the same"
            )

    def known(self, operator: str) -> str:
        with self._claiming:
            return " ".join(sorted(identity for identity, owner in self._owners.items() if owner == operator))


def _looked_up(addresses: Sequence[Address], timeout_s: float) -> list[tuple[Address, list[str]]]:
    """Every address of every host, of both families; what is not found in time is left to the connection."""
    if any(address.host is None for address in addresses):
        raise InputError("spread: expected HOST:PORT of each operator, got a Unix socket")
    until = time.monotonic() + timeout_s
    lookups = [started(partial(_addresses_of, str(address.host))) for address in addresses]
    return [(address, _found(lookup, until)) for address, lookup in zip(addresses, lookups, strict=True)]


def _addresses_of(host: str) -> list[str]:
    return sorted({_plain(str(where[0])) for *_, where in socket.getaddrinfo(host, None)})


def _found(lookup: Future[list[str]], until: float) -> list[str]:
    try:
        return lookup.result(max(0.0, until - time.monotonic()))
    except (OSError, UnicodeError, NotInTimeError):
        return []


def _plain(ip: str) -> str:
    """One text for one address, also where IPv4 is written as IPv6."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)
