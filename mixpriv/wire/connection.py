"""Calls over one connection to a server: what comes is limited, and ends with the connection or the deadline."""

from __future__ import annotations

import threading
import time
from typing import Any

from mixpriv.errors import IncompatibleServerError, ServerLostError, ServerUnavailableError, printable
from mixpriv.wire.channel import ChannelSettings
from mixpriv.wire.dial import dial
from mixpriv.wire.faults import fault
from mixpriv.wire.relay import Relay
from mixpriv.wire.token import Token

_SERVICE = "/inference.GRPCInferenceService/"
_CLOSE_TIMEOUT_S = 0.5
_OVERHEAD = 2**20
"""Bytes beside an answer: a handshake, acknowledgements of what we send, headers; and an eighth for frames."""


class Connection:
    """One connection to a server, for one call at a time; it is never opened again.

    Raises
    ------
    InputError
        the proxy that the environment names is none that we can use.
    ServerUnavailableError
        nobody is there in time, or this system does not let us connect.
    """

    def __init__(self, settings: ChannelSettings, token: Token | None, deadline: float) -> None:
        self._server = settings.address.text
        self._metadata = token and token.metadata
        server = dial(settings.address, proxied=settings.credentials is not None, deadline=deadline)
        try:
            self._relay = Relay(server)
        except OSError as error:
            reason = printable(error.strerror or str(error))
            raise ServerUnavailableError(f"server {self._server}: no private socket can be made: {reason}") from None
        self._channel = settings.open(self._relay.target)

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

    def call(self, method: str, request: bytes, *, answer_bytes: int, deadline: float) -> bytes:
        """Call a method and return its answer as it came; it ends at the deadline, even if the server is stopped.

        Raises
        ------
        IncompatibleServerError, ServerUnavailableError
            the server says no, breaks off, is late, or its answer is longer than `answer_bytes`.
        """
        import grpc

        # Bytes in and out: of a message that cannot be read, gRPC would print a traceback.
        calling = self._channel.unary_unary(_SERVICE + method)
        self._relay.allow(answer_bytes + answer_bytes // 8 + _OVERHEAD)
        call = calling.future(request, timeout=max(0.0, deadline - time.monotonic()), metadata=self._metadata)
        try:
            answer = call.result(timeout=max(0.0, deadline - time.monotonic()))
        except grpc.RpcError as error:
            raise self._failure(error, answer_bytes) from None
        except (grpc.FutureTimeoutError, grpc.FutureCancelledError):
            raise ServerLostError(f"server {self._server} gave no answer in time") from None
        finally:
            call.cancel()
        if answer is None:
            raise IncompatibleServerError(f"server {self._server} answered nothing")
        if len(answer) > answer_bytes:
            raise self._too_long(answer_bytes)
        return bytes(answer)

    def _failure(self, error: Any, answer_bytes: int) -> Exception:
        if self._relay.overrun:
            return self._too_long(answer_bytes)
        details = error.details() or ""
        if self._relay.target in details:
            # Once the connection is gone gRPC looks for it again, and the relay refuses: that it ended is what happened.
            again = "refused" in details
            details = "Socket closed" if again else details.replace(self._relay.target, self._server)
        return fault(self._server, error.code().name, details)

    def _too_long(self, answer_bytes: int) -> IncompatibleServerError:
        return IncompatibleServerError(f"server {self._server} answered more than the {answer_bytes} bytes expected")
