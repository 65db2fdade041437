"""Passes a connection on to a port, as proxies and middlemen do, and keeps what was said if it is asked to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Hear = Callable[[bytes], object]


def forward(client: socket.socket, port: int, asked: Hear = bytes, answered: Hear = bytes) -> None:
    """Connect to a port of this machine, and pass on what either side says until one has ended; hear all of it."""
    with socket.create_connection(("127.0.0.1", port)) as server:
        answers = threading.Thread(target=_pass, args=(server, client, answered), daemon=True)
        answers.start()
        _pass(client, server, asked)
        answers.join()


def _pass(source: socket.socket, sink: socket.socket, hear: Hear) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            hear(data)
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def recorded(port: int) -> Iterator[tuple[int, bytearray, bytearray]]:
    """A port before another one, and all that one connection to it was asked and answered."""
    asked, answered = bytearray(), bytearray()

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            forward(client, port, asked.extend, answered.extend)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1]), asked, answered
