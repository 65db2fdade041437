"""Keeping a tritonserver at work: watched, started again when it is lost, given up when that does not help."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

from mixpriv.errors import ServerUnavailableError
from mixpriv.server.events import EventLog
from mixpriv.server.health import probe, statistics
from mixpriv.server.triton import TritonServer

PROBE_EVERY_S = 60.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STABLE_S = 600.0
"""A server that worked for so long is forgiven its earlier ends."""

_LOOK_EVERY_S = 0.25


def keep_running(make: Callable[[], TritonServer], log: EventLog, *, restarts: int) -> NoReturn:
    """Run a server until it has ended more often than it may; from the main thread.

    Parameters
    ----------
    make : a new server, not started; each listens at the same address
    restarts : how often in a row it is started again

    Raises
    ------
    ServerUnavailableError
        it did not start the first time, or ended once too often.
    """
    ended, started = 0, False
    while True:
        begin = time.monotonic()
        try:
            with make() as server:
                started = True
                log.tell("ready", f"{server.title} ready on {server.address}", address=server.address, restarts=ended)
                reason = watch(server, log)
                server.abandon()
        except ServerUnavailableError as error:
            if not started:
                raise
            reason = str(error)
        ended = 1 if time.monotonic() - begin > STABLE_S else ended + 1
        if ended > restarts:
            raise ServerUnavailableError(f"{reason}; given up after {restarts} restarts" if restarts else reason)
        pause = min(FIRST_PAUSE_S * 2 ** (ended - 1), LONGEST_PAUSE_S)
        log.tell(
            "restart", f"{reason}; starting it again in {pause:.1f} s", trouble=True, reason=reason, restarts=ended
        )
        time.sleep(pause)


def watch(server: TritonServer, log: EventLog) -> str:
    """Wait until a server is lost: ended, without its model process, or standing still; returns what happened.

    Now and then it is told what was served; a server that served nothing meanwhile is asked for an inference.
    """
    next_probe = time.monotonic() + PROBE_EVERY_S
    served: int | None = None
    while True:
        reason = server.lost()
        if reason is None and time.monotonic() > next_probe:
            now = statistics(server)
            if now is None or now.requests == served:
                reason = probe(server)
            served = _tell_served(server, log)
            next_probe = time.monotonic() + PROBE_EVERY_S
        if reason is not None:
            return server.lost() or reason
        server.cut_log()
        time.sleep(_LOOK_EVERY_S)


def _tell_served(server: TritonServer, log: EventLog) -> int | None:
    """Tell how many requests were served, and where their time went; returns how many, None if that is not known."""
    served = statistics(server)
    if served is None:
        return None
    facts = {name: round(value, 3) for name, value in vars(served).items()}
    log.tell("served", f"{served.requests} requests served, {served.failures} failed", **facts)
    return served.requests
