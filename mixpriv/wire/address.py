"""Where servers are."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import threading
from dataclasses import dataclass

from mixpriv.errors import InputError

_HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
UNIX = "unix:"
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
MAX_SERVERS = 64


@dataclass(frozen=True)
class Address:
    """``HOST:PORT`` or ``unix:/path``, checked.

    Attributes
    ----------
    text : what gRPC is told
    host : without the port and brackets; None for a socket
    name : the DNS name that this address was found under, whose certificate it must have; None if it was given itself

    Examples
    --------
    >>> Address.parse("[::1]:8001").is_local
    True
    >>> Address.parse("seg.example.org")
    Traceback (most recent call last):
    ...
    mixpriv.errors.InputError: server address 'seg.example.org': expected HOST:PORT or unix:/path
    """

    text: str
    host: str | None
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises
        ------
        InputError
            neither HOST:PORT nor unix:/absolute/path; gRPC's other schemes (proxies, resolvers) are refused too.
        """
        if text.startswith(UNIX + "/"):
            return cls(text, None)
        match = _HOST_PORT.fullmatch(text)
        if not match or not 0 < int(match["port"]) < 2**16:
            raise InputError(f"server address {text!r}: expected HOST:PORT or unix:/path")
        return cls(text, match["host"].strip("[]"))

    @property
    def shown(self) -> str:
        """For people: with the name that it was found under."""
        return f"{self.name} at {self.text}" if self.name else self.text

    @property
    def is_local(self) -> bool:
        """Whether what is sent there stays on this machine; of a name it is the name that decides, not DNS."""
        host = self.name or self.host
        if host is None or host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def resolve(self, timeout_s: float) -> tuple[Address, ...]:
        """List the servers behind a name that stands for several, in a fixed order; otherwise this address alone.

        A name that is not found in time is left to gRPC, which says what is wrong with it.
        """
        if self.host is None or self.is_local or _is_ip(self.host) or any(map(os.environ.get, PROXIES)):
            return (self,)
        port = int(self.text.rpartition(":")[2])
        found = _look_up(self.host, port, timeout_s)
        if len(found) < 2:
            return (self,)
        texts = [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in found]
        return tuple(Address(text, ip, self.host) for text, ip in zip(texts, found, strict=True))


def parse_servers(text: str) -> tuple[Address, ...]:
    """Read ``ADDRESS[,ADDRESS...]``.

    Raises
    ------
    InputError
        one of them is no address or given twice, or there are more than 64.

    Examples
    --------
    >>> [address.host for address in parse_servers("a.example.org:8001, b.example.org:8001")]
    ['a.example.org', 'b.example.org']
    """
    addresses = tuple(Address.parse(part.strip()) for part in text.split(","))
    if len(set(addresses)) < len(addresses) or len(addresses) > MAX_SERVERS:
        raise InputError(f"server: expected up to {MAX_SERVERS} different addresses, got {len(addresses)}")
    return addresses


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str, port: int, timeout_s: float) -> list[str]:
    """The addresses of a host, of one family: those of the other are most often the same machines again."""
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        try:
            for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                answers.append((family, str(where[0])))
        except OSError:
            pass

    # The system's resolver has no deadline of ours.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout_s)
    if asking.is_alive() or not answers:
        return []
    return sorted({ip for family, ip in answers if family == answers[0][0]})[:MAX_SERVERS]
