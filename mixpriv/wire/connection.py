"""Calls over one connection to a server: what comes is limited, and ends with the connection or the deadline."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from mixpriv.errors import IncompatibleServerError, ServerLostError, ServerUnavailableError, printable
from mixpriv.wire.channel import ChannelSettings
from mixpriv.wire.dial import dial
from mixpriv.wire.faults import fault
from mixpriv.wire.relay import Relay
from mixpriv.wire.secured import SecuredSocket
from mixpriv.wire.token import Token

_SERVICE = "/inference.GRPCInferenceService/"
_CLOSE_TIMEOUT_S = 0.5
_OVERHEAD = 2**20
"""Bytes beside an answer: a handshake, acknowledgements of what we send, headers; and an eighth for frames."""


class Connection:
    """One connection to a server, never opened again; several threads may call over it.

    Attributes
    ----------
    peer : the address that it leads to, a proxy's where there is one; None for a Unix socket
    certificate : SHA-256 of the one that the server has shown on it, in hexadecimal digits; None in plain text

    Raises
    ------
    InputError
        the proxy that the environment names is none that we can use.
    ServerUnavailableError
        nobody is there in time, it is not trusted, or this system does not let us connect.
    """

    def __init__(self, settings: ChannelSettings, token: Token | None, deadline: float) -> None:
        self._server = settings.address.text
        self._metadata = token and token.metadata
        dialled = dial(settings.address, proxied=settings.context is not None, deadline=deadline)
        self.peer = _peer(dialled, self._server)
        self.certificate: str | None = None
        server: socket.socket | SecuredSocket = dialled
        if settings.context is not None:
            server = SecuredSocket(
                dialled, settings.context, name=settings.name, server=self._server, deadline=deadline
            )
            self.certificate = server.certificate
        try:
            self._relay = Relay(server)
        except OSError as error:
            reason = printable(error.strerror or str(error))
            raise ServerUnavailableError(f"server {self._server}: no private socket can be made: {reason}") from None
        self._channel = settings.open_through(self._relay.target)
        self._calls, self._retired = 0, False
        self._changing = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether nothing is known against it."""
        return not self._relay.ended.is_set()

    def close(self) -> None:
        """Close the connection; open calls are given up."""
        self._relay.cut()

        def close() -> None:
            self._channel.close()
            self._relay.close()

        # gRPC may take its time.
        closing = threading.Thread(target=close, daemon=True)
        closing.start()
        closing.join(_CLOSE_TIMEOUT_S)

    def retire(self) -> None:
        """Close the connection once no call is open."""
        with self._changing:
            self._retired = True
            unused = not self._calls
        if unused:
            self.close()

    def call(self, method: str, request: bytes, *, answer_bytes: int, deadline: float) -> bytes:
        """Call a method and return its answer as it came; it ends at the deadline, even if the server is stopped.

        Raises
        ------
        IncompatibleServerError, ServerUnavailableError
            the server says no, breaks off, is late, or its answer is longer than `answer_bytes`.
        """
        with self._expected(answer_bytes + answer_bytes // 8 + _OVERHEAD):
            answer = self._answer(method, request, answer_bytes, deadline)
        if answer is None:
            raise IncompatibleServerError(f"server {self._server} answered nothing")
        if len(answer) > answer_bytes:
            raise self._too_long(answer_bytes)
        return answer

    def _answer(self, method: str, request: bytes, answer_bytes: int, deadline: float) -> bytes | None:
        import grpc

        # Bytes in and out: of a message that cannot be read, gRPC would print a traceback.
        calling = self._channel.unary_unary(_SERVICE + method)
        try:
            call = calling.future(request, timeout=max(0.0, deadline - time.monotonic()), metadata=self._metadata)
        except ValueError:  # of a channel that another thread closed
            raise ServerLostError(f"server {self._server}: the connection was closed") from None
        try:
            answer: bytes | None = call.result(timeout=max(0.0, deadline - time.monotonic()))
        except grpc.RpcError as error:
            raise self._failure(error, answer_bytes) from None
        except (grpc.FutureTimeoutError, grpc.FutureCancelledError):
            raise ServerLostError(f"server {self._server} gave no answer in time") from None
        else:
            return answer
        finally:
            call.cancel()

    @contextlib.contextmanager
    def _expected(self, count: int) -> Iterator[None]:
        """Let so many bytes come while it lasts, beside those that other calls wait for."""
        with self._changing:
            self._relay.allow(count, more=self._calls > 0)
            self._calls += 1
        try:
            yield
        finally:
            with self._changing:
                self._calls -= 1
                unused = self._retired and not self._calls
            if unused:
                self.close()

    def _failure(self, error: Any, answer_bytes: int) -> Exception:
        if self._relay.overrun:
            return self._too_long(answer_bytes)
        details = error.details() or ""
        if self._relay.target in details:
            # A connection that is gone gRPC looks for again, and the relay refuses: what to tell is that it ended.
            again = "refused" in details
            details = "Socket closed" if again else details.replace(self._relay.target, self._server)
        return fault(self._server, error.code().name, details)

    def _too_long(self, answer_bytes: int) -> IncompatibleServerError:
        return IncompatibleServerError(f"server {self._server} answered more than the {answer_bytes} bytes expected")


def _peer(dialled: socket.socket, server: str) -> str | None:
    """The address at the other end; none once that has closed the connection, as a proxy with nobody behind it does."""
    if dialled.family == getattr(socket, "AF_UNIX", None):
        return None
    try:
        return str(dialled.getpeername()[0])
    except OSError:
        dialled.close()
        raise ServerLostError(f"server {server} closed the connection at once") from None
