"""One connection to a server and never a second, so that what was checked on it holds for all that it carries.

gRPC reconnects as it likes, and nothing in Python ties a call to a connection. So gRPC is not told where the server is:
it gets a socket of ours that lets in one connection, and the bytes pass from there to the one connection that we made.
TLS is between here and the server: gRPC would not tell whose certificate it was shown. What passes is not looked at.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import sys
import threading
from pathlib import Path

from mixpriv.wire.secured import SecuredSocket

_BUFFER = 2**20
_ACCEPT_TIMEOUT_S = 30.0
"""Longer than any call waits for its connection."""


class Relay:
    """Passes bytes between a connected server and the one who comes to `target`; closed by `cut`, then `close`.

    Attributes
    ----------
    target : what gRPC is told to connect to
    ended : set when nothing passes any more
    overrun : whether it ended because the server sent more than was allowed
    """

    def __init__(self, server: socket.socket | SecuredSocket) -> None:
        self._server = server
        self._allowed = 0
        self._changing = threading.Lock()
        self.ended = threading.Event()
        self.overrun = False
        try:
            self._door = _Door()
        except BaseException:
            server.close()
            raise
        self.target = self._door.target
        threading.Thread(target=self._run, daemon=True).start()

    def allow(self, count: int, *, more: bool = False) -> None:
        """Let the server send so many bytes from now on and no more, or more than what it may already."""
        with self._changing:
            self._allowed = count + (max(0, self._allowed) if more else 0)

    def cut(self) -> None:
        """Let nothing pass any more."""
        _shut(self._server)
        self._door.shut()

    def close(self) -> None:
        """Give the place of `target` free: not before gRPC has stopped to look for it, for another might take it."""
        self.cut()
        self._door.close()

    def _run(self) -> None:
        client = self._door.let_in()
        with contextlib.ExitStack() as stack:
            stack.callback(self.ended.set)
            stack.enter_context(self._server)
            if client is None:
                return
            stack.enter_context(client)
            answers = threading.Thread(target=self._pass_answers, args=(client,), daemon=True)
            answers.start()
            stack.callback(answers.join)
            self._pass_requests(client)

    def _pass_requests(self, client: socket.socket) -> None:
        buffer = memoryview(bytearray(_BUFFER))
        # Either side may break off at any moment: that is an end like another, which gRPC tells.
        with contextlib.suppress(OSError):
            while count := client.recv_into(buffer):
                self._server.sendall(buffer[:count])
        self.ended.set()
        _shut(self._server)
        _shut(client)

    def _pass_answers(self, client: socket.socket) -> None:
        buffer = memoryview(bytearray(_BUFFER))
        with contextlib.suppress(OSError):
            while (count := self._server.recv_into(buffer)) and self._is_allowed(count):
                client.sendall(buffer[:count])
        self.ended.set()
        with contextlib.suppress(OSError):
            # What was passed can still be read, and what is on its way to the server fails there.
            client.shutdown(socket.SHUT_WR)
        if self.overrun:
            _shut(client)
        _shut(self._server)

    def _is_allowed(self, count: int) -> bool:
        with self._changing:
            self._allowed -= count
            self.overrun = self._allowed < 0
        return not self.overrun


class _Door:
    """A listening socket that only this process comes through, once; then it stays shut and nobody can take its place.

    On Linux it has no file; elsewhere it is in a folder of mode 0700, which goes as soon as we are through.
    """

    def __init__(self) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("this system has no Unix sockets")
        self._folder: Path | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            if sys.platform == "linux":
                name = f"mixpriv-{secrets.token_hex(16)}"
                self._listener.bind("\0" + name)
                self.target = f"unix-abstract:{name}"
            else:
                import tempfile

                self._folder = Path(tempfile.mkdtemp(prefix="mixpriv-"))
                self._listener.bind(str(self._folder / "s"))
                self.target = f"unix:{self._folder / 's'}"
            self._listener.listen(16)
            self._listener.settimeout(_ACCEPT_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    def let_in(self) -> socket.socket | None:
        """Wait for this process; None if the door was shut before."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if _is_ours(client):
                    self.shut()
                    client.settimeout(None)
                    for size in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                        client.setsockopt(socket.SOL_SOCKET, size, _BUFFER)
                    return client
                client.close()
        return None

    def shut(self) -> None:
        """Let nobody in any more."""
        _shut(self._listener)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / "s").unlink()
                self._folder.rmdir()

    def close(self) -> None:
        self.shut()
        self._listener.close()


def _is_ours(client: socket.socket) -> bool:
    """Whether it is this process that came; where the system does not tell, only our user can get so far."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(pid == os.getpid())


def _shut(one: socket.socket | SecuredSocket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
