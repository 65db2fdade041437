"""The one connection to a server: straight, or through the proxy that the environment names."""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTimeError
from urllib.parse import SplitResult, unquote, urlsplit

from mixpriv.errors import InputError, ServerLostError, printable
from mixpriv.wire.address import PROXIES, UNIX, Address
from mixpriv.wire.background import started
from mixpriv.wire.channel import KEEPALIVE_TIMEOUT_S

_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")


def dial(address: Address, *, proxied: bool, deadline: float) -> socket.socket:
    """Connect to a server.

    Parameters
    ----------
    proxied : go through the proxy of the environment, if it names one: for TLS alone, which it cannot read
    deadline : as `time.monotonic` tells it

    Raises
    ------
    InputError
        what the environment names is no proxy that we can use.
    ServerLostError
        nobody is there, or not in time.
    """
    proxy = _proxy(address) if proxied else None
    connecting = started(lambda: _connect(address, proxy, deadline))
    try:
        return connecting.result(max(0.0, deadline - time.monotonic()))
    except (NotInTimeError, TimeoutError):
        connecting.add_done_callback(_close)
        raise ServerLostError(f"server {address.text} cannot be reached: gave no answer in time") from None
    except (OSError, ValueError) as error:
        reason = printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        raise ServerLostError(f"server {address.text} cannot be reached: {reason}") from None
    except BaseException:  # a signal
        connecting.add_done_callback(_close)
        raise


def _connect(address: Address, proxy: SplitResult | None, deadline: float) -> socket.socket:
    if address.text.startswith(UNIX):
        local = socket.socket(socket.AF_UNIX)
        try:
            local.settimeout(max(0.001, deadline - time.monotonic()))
            local.connect(address.text.removeprefix(UNIX))
        except BaseException:
            local.close()
            raise
        connected = local
    else:
        connected = _tunnel(address, proxy, deadline) if proxy else _first_of(address, deadline)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A ping cannot be sent while what is before it is not taken.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * KEEPALIVE_TIMEOUT_S))
    connected.settimeout(None)
    return connected


def _first_of(address: Address, deadline: float) -> socket.socket:
    """A connection to the first of a name's addresses that answers; a silent one leaves time for those after it."""
    host, port = _host_and_port(address)
    found = list(dict.fromkeys(where[4][:2] for where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    for number, where in enumerate(found):
        left = max(0.001, deadline - time.monotonic())
        try:
            return socket.create_connection((str(where[0]), port), timeout=left / (len(found) - number))
        except OSError:
            if number == len(found) - 1:
                raise
    raise OSError("the name has no address")


def _tunnel(address: Address, proxy: SplitResult, deadline: float) -> socket.socket:
    """A connection through a proxy, by the method CONNECT."""
    import http.client  # takes its time, and few need it

    timeout_s = max(0.001, deadline - time.monotonic())
    tunnel = http.client.HTTPConnection(str(proxy.hostname), proxy.port or http.client.HTTP_PORT, timeout=timeout_s)
    tunnel.set_tunnel(*_host_and_port(address), headers=_credentials(proxy))
    try:
        tunnel.connect()
    except http.client.HTTPException as error:
        tunnel.close()
        raise OSError(f"its proxy answered {error}") from None
    except BaseException:
        tunnel.close()
        raise
    return tunnel.sock


def _credentials(proxy: SplitResult) -> Mapping[str, str]:
    if proxy.username is None:
        return {}
    told = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(told.encode()).decode("ascii")}


def _proxy(address: Address) -> SplitResult | None:
    """The proxy that the environment names for a server, in the variables that gRPC reads; None for none."""
    named = next(((name, os.environ[name]) for name in PROXIES if os.environ.get(name)), None)
    if named is None or address.is_local:
        return None
    excepted = next(filter(None, map(os.environ.get, _EXCEPTIONS)), "")
    if any(_covers(entry.strip(), str(address.host)) for entry in excepted.split(",")):
        return None
    variable, text = named
    try:
        proxy = urlsplit(text if "://" in text else f"http://{text}")
        if proxy.scheme == "http" and proxy.hostname and proxy.port != 0:
            return proxy
    except ValueError:  # of a port that is no number
        pass
    raise InputError(f"{variable}: expected http://HOST:PORT, got something else")


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of ``no_proxy`` means a host: a name and all below it, a network, or ``*``."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return bool(entry) and f".{host}".lower().endswith("." + entry.lstrip(".").lower())


def _host_and_port(address: Address) -> tuple[str, int]:
    return str(address.host), int(address.text.rpartition(":")[2])


def _close(connecting: Future[socket.socket]) -> None:
    if connecting.exception() is None:
        connecting.result().close()
