"""A server for one run of the client, on a socket that only this user can reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mixpriv.bundle import Bundle
from mixpriv.server.triton import TritonServer
from mixpriv.wire.address import Address
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.token import Token
from mixpriv.wire.transport import DEFAULT_TIMEOUT_S


class EmbeddedSegmenter(ServerPool):
    """The way to a server that this process started: what is sent there does not leave this machine.

    Parameters
    ----------
    server : listens on its own Unix socket
    timeout_s, tls, insecure, token : as of `ServerPool`
    """

    leaves_machine = False

    def __init__(
        self,
        server: TritonServer,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsOptions | None = None,
        insecure: bool = False,
        token: Token | None = None,
    ) -> None:
        address = Address.parse(server.address)
        if address.host is not None:
            raise ValueError(f"server: expected one on a Unix socket, got one on {address.text}")
        super().__init__(
            [address], server.contract, timeout_s=timeout_s, tls=tls, insecure=insecure, token=token, lost=server.lost
        )
        self.address = "embedded"


@contextmanager
def embedded_server(bundle: Bundle, *, threads: int | None = None) -> Iterator[TritonServer]:
    """Serve the bundle on a Unix socket while the context lasts.

    Parameters
    ----------
    threads : the most that inference uses; None for what this process may use

    Yields
    ------
    TritonServer
        ready; its address is ``unix:/path``

    Raises
    ------
    ServerUnavailableError
        it cannot start here; the message says why in one line.
    """
    # Killed at the end, at once: what it was asked has been answered, or is not wanted any more.
    with TritonServer(bundle, threads=threads, stop_timeout_s=0) as server:
        yield server
