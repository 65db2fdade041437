"""Passes a connection on to a port, as proxies and middlemen do."""

from __future__ import annotations

import contextlib
import socket
import threading


def forward(client: socket.socket, port: int) -> None:
    """Connect to a port of this machine, and pass on what either side says until one has ended."""
    with socket.create_connection(("127.0.0.1", port)) as server:
        answers = threading.Thread(target=_pass, args=(server, client), daemon=True)
        answers.start()
        _pass(client, server)
        answers.join()


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
