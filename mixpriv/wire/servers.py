"""Several servers as one segmenter: in turn, another when one fails, again when that is safe, all within one deadline.

A request is made once and repeated with the same bytes, so that a repetition teaches a server nothing new. Inference
changes nothing on the server: to ask again is safe unless it refused us or serves another network.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import (
    IncompatibleServerError,
    MixprivError,
    ServerBusyError,
    ServerLostError,
    ServerUnavailableError,
)
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.messages import encode_request
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.token import Token
from mixpriv.wire.transport import CHECK_TIMEOUT_S, DEFAULT_TIMEOUT_S, GrpcSegmenter

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
LOST_PATIENCE_S = 60.0
"""Servers that do not answer are asked for so long: a restart with its warming up takes less, an absence more."""

REST_S = 30.0
"""A server that failed is asked after the others for so long."""

_SHOWN = 3
Answer = TypeVar("Answer")


class ServerPool:
    """The servers at some addresses, as a context manager; for one thread at a time.

    Parameters
    ----------
    addresses : of servers that all serve the contract's network; a name may stand for several
    contract, timeout_s, tls, insecure, token : as of `GrpcSegmenter`; the time is a request's, repetitions included
    lost : of our own server, how it came to its end; None while it lives

    Raises
    ------
    InputError
        a certificate file is unusable.
    """

    leaves_machine = True

    def __init__(
        self,
        addresses: Sequence[Address],
        contract: SegmenterContract,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsOptions | None = None,
        insecure: bool = False,
        token: Token | None = None,
        lost: Callable[[], str | None] | None = None,
    ) -> None:
        self._lost = lost
        self._given = tuple(addresses)
        self.address = ",".join(address.text for address in addresses)
        self._contract = contract
        self._timeout_s = timeout_s

        def connect(address: Address) -> GrpcSegmenter:
            return GrpcSegmenter(address, contract, timeout_s=timeout_s, tls=tls, insecure=insecure, token=token)

        self._connect = connect
        self._servers: dict[Address, GrpcSegmenter] = {}
        self._failed: dict[Address, float] = {}
        # Clients that begin together shall not all begin with the same server.
        self._turn = secrets.randbelow(2**16)
        self._find_servers(time.monotonic() + CHECK_TIMEOUT_S)

    def __enter__(self) -> ServerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        with ExitStack() as stack:
            for server in self._servers.values():
                stack.callback(server.close)

    def check(self) -> None:
        """Find one server that serves the contract's network; each is checked again before it gets a voxel.

        Nothing is repeated: at the start, a server that is not there is most often a wrong address.

        Raises
        ------
        IncompatibleServerError, ServerUnavailableError
            there is none; the message says why.
        """
        failures: dict[Address, MixprivError] = {}
        if not self._ask_round(GrpcSegmenter.check, failures):
            raise _summary(failures)

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Send one mixture to the next server; to others, and again, while that may help and time is left.

        See `GrpcSegmenter.segment` for shapes and errors.
        """
        request = encode_request(self._contract, mixture)
        deadline = time.monotonic() + self._timeout_s
        return self._ask(lambda server: server.ask(request, deadline), deadline)

    def _ask(self, question: Callable[[GrpcSegmenter], Answer], deadline: float) -> Answer:
        pause, lost_since = FIRST_PAUSE_S, None
        while True:
            failures: dict[Address, MixprivError] = {}
            answers = self._ask_round(question, failures)
            if answers:
                return answers[0]
            ended = self._lost and self._lost()
            if ended:  # and nobody starts it again
                raise ServerUnavailableError(f"our own server is lost: {ended}")
            busy = any(isinstance(failure, ServerBusyError) for failure in failures.values())
            lost_since = None if busy else lost_since or time.monotonic()
            # Not all at once, those whom a full queue sent away together.
            wait = pause * (0.5 + secrets.randbelow(1000) / 2000)
            until = deadline if lost_since is None else min(deadline, lost_since + LOST_PATIENCE_S)
            if not _worth_repeating(failures) or time.monotonic() + wait > until:
                raise _summary(failures)
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            self._find_servers(deadline)

    def _ask_round(
        self, question: Callable[[GrpcSegmenter], Answer], failures: dict[Address, MixprivError]
    ) -> list[Answer]:
        """Ask server after server until one answers: at most one answer, and how those before it failed."""
        for address in self._in_turn():
            try:
                answer = question(self._servers[address])
            except (ServerUnavailableError, IncompatibleServerError) as failure:
                self._failed[address] = time.monotonic()
                failures[address] = failure
            else:
                self._failed.pop(address, None)
                return [answer]
        return []

    def _in_turn(self) -> list[Address]:
        """All servers, from another one on each time, those that failed lately last."""
        addresses = list(self._servers)
        first = self._turn % len(addresses)
        self._turn += 1
        rested = time.monotonic() - REST_S
        return sorted(addresses[first:] + addresses[:first], key=lambda a: self._failed.get(a, rested) > rested)

    def _find_servers(self, deadline: float) -> None:
        """Look names up, anew each time: behind them servers come and go."""
        found: list[Address] = []
        for address in self._given:
            found += address.resolve(max(0.0, min(CHECK_TIMEOUT_S, deadline - time.monotonic())))
        for address in self._servers.keys() - set(found):
            self._servers.pop(address).close()
        self._servers = {
            address: self._servers[address] if address in self._servers else self._connect(address)
            for address in dict.fromkeys(found)
        }


def _worth_repeating(failures: dict[Address, MixprivError]) -> bool:
    return any(isinstance(failure, ServerBusyError | ServerLostError) for failure in failures.values())


def _summary(failures: dict[Address, MixprivError]) -> MixprivError:
    """One error for all servers; incompatible only if that holds for each."""
    errors = list(failures.values())
    if len(errors) == 1:
        return errors[0]
    said = "; ".join(str(error) for error in errors[:_SHOWN]) + ("; ..." if len(errors) > _SHOWN else "")
    incompatible = all(isinstance(error, IncompatibleServerError) for error in errors)
    kind = IncompatibleServerError if incompatible else ServerUnavailableError
    return kind(f"none of {len(errors)} servers can be used: {said}")
