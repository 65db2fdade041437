"""Several servers as one segmenter: in turn, another when one fails, again when that is safe, all within one deadline.

A request is made once and repeated with the same bytes, so that a repetition teaches a server nothing new. Inference
changes nothing on the server: to ask again is safe unless it refused us or serves another network.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

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
from mixpriv.wire.background import started
from mixpriv.wire.connection import Connection
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.delivery import Delivery
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

SILENCE_S = 0.5
"""A server that has not shown its network by then is not waited for alone: all the others are asked, too."""

_SHOWN = 3


class ServerPool:
    """The servers at some addresses, as a context manager; for one thread at a time.

    Parameters
    ----------
    addresses : of servers that all serve the contract's network; a name may stand for several
    contract, timeout_s, tls, insecure, token : as of `GrpcSegmenter`; the time is a request's, repetitions included
    admit : as of `GrpcSegmenter`
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
        admit: Callable[[Connection], None] = lambda connection: None,
        lost: Callable[[], str | None] | None = None,
    ) -> None:
        self._lost = lost
        self.deliveries: list[Delivery] = []
        self._given = tuple(addresses)
        self.address = ",".join(address.text for address in addresses)
        self._contract = contract
        self._timeout_s = timeout_s

        def connect(address: Address) -> GrpcSegmenter:
            how = {"timeout_s": timeout_s, "tls": tls, "insecure": insecure, "token": token}
            return GrpcSegmenter(address, contract, admit=admit, **how)  # type: ignore[arg-type]

        self._connect = connect
        self._servers: dict[Address, GrpcSegmenter] = {}
        self._failed: dict[Address, float] = {}
        self._checks: dict[Address, Future[Connection]] = {}
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
        if next(self._ready(failures, time.monotonic() + self._timeout_s), None) is None:
            raise _summary(failures)

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Send one mixture to the next server; to others, and again, while that may help and time is left.

        See `GrpcSegmenter.segment` for shapes and errors.
        """
        self.deliveries = []
        request = encode_request(self._contract, mixture)
        deadline = time.monotonic() + self._timeout_s
        pause, lost_since = FIRST_PAUSE_S, None
        while True:
            failures: dict[Address, MixprivError] = {}
            answer = self._ask_round(request, failures, deadline)
            if answer is not None:
                return answer
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
        self, request: Any, failures: dict[Address, MixprivError], deadline: float
    ) -> NDArray[np.uint8] | None:
        """Ask server after server until one answers; how those before it failed goes to `failures`."""
        for address, connection in self._ready(failures, deadline):
            try:
                answer = self._servers[address].send(connection, request, deadline, self.deliveries)
            except (ServerUnavailableError, IncompatibleServerError) as failure:
                self._note(address, failure, failures)
            else:
                return answer
        return None

    def _ready(self, failures: dict[Address, MixprivError], deadline: float) -> Iterator[tuple[Address, Connection]]:
        """Servers that have just shown the right network, in turn.

        Once one is silent, all the others are asked at once: many silent ones cost no more time than one.
        """
        waiting, checks = self._in_turn(), dict[Address, Future[Connection]]()
        while waiting or checks:
            if waiting:
                address = waiting.pop(0)
                checks[address] = self._checked(address, deadline)
            done, silent = wait_for(checks.values(), SILENCE_S if waiting else None, FIRST_COMPLETED)
            if silent and not done:
                self._failed |= dict.fromkeys(checks, time.monotonic())
                checks |= {address: self._checked(address, deadline) for address in waiting}
                waiting.clear()
            for address in [address for address, check in checks.items() if check in done]:
                try:
                    connection = checks.pop(address).result()
                except (ServerUnavailableError, IncompatibleServerError) as failure:
                    self._note(address, failure, failures)
                else:
                    self._failed.pop(address, None)
                    yield address, connection

    def _checked(self, address: Address, deadline: float) -> Future[Connection]:
        """The check of a server, begun now unless one goes on: of a silent one that was passed over."""
        check = self._checks.get(address)
        if check is None or check.done():
            server = self._servers[address]
            check = self._checks[address] = started(lambda: server.ready(deadline)[0])
        return check

    def _note(self, address: Address, failure: MixprivError, failures: dict[Address, MixprivError]) -> None:
        self._failed[address] = time.monotonic()
        failures[address] = failure

    def _in_turn(self) -> list[Address]:
        """All servers, from another one on each time, those that failed lately last."""
        addresses = list(self._servers)
        first = self._turn % len(addresses)
        self._turn += 1
        rested = time.monotonic() - REST_S
        return sorted(addresses[first:] + addresses[:first], key=lambda a: self._failed.get(a, rested) > rested)

    def _find_servers(self, deadline: float) -> None:
        """Look names up, anew each time: behind them servers come and go."""
        timeout_s = max(0.0, min(CHECK_TIMEOUT_S, deadline - time.monotonic()))
        # All at once: a resolver that is silent about many names takes no longer than for one.
        lookups = [started(partial(address.resolve, timeout_s)) for address in self._given]
        found = [address for lookup in lookups for address in lookup.result()]
        for address in self._servers.keys() - set(found):
            self._servers.pop(address).close()
            self._checks.pop(address, None)
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
