"""A server for one run of the client, on a socket that only this user can reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mixpriv.bundle import Bundle
from mixpriv.server.triton import TritonServer


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
