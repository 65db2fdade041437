"""Asks servers for a real inference each."""

from __future__ import annotations

import argparse
import threading
import time
from concurrent.futures import Future
from functools import partial

from mixpriv.bundle import Bundle
from mixpriv.cli.options import Connection, connection
from mixpriv.cli.process import explain
from mixpriv.errors import ServerBusyError
from mixpriv.server.events import EventLog
from mixpriv.server.health import infer_zeros
from mixpriv.wire.address import Address, parse_servers
from mixpriv.wire.background import started
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import CHECK_TIMEOUT_S, GrpcSegmenter

DEFAULT_TIMEOUT_S = 30.0

_volumes = threading.BoundedSemaphore(8)
"""At so many servers at once there is an inference: each holds a volume and its answer."""


def check(bundle: Bundle, given: argparse.Namespace, log: EventLog) -> int:
    """Ask every server of ``--server`` once and tell each answer; returns the first failure's exit code, or 0.

    All are asked at once, so that silent ones do not add up.
    """
    how = connection(given, timeout_s=DEFAULT_TIMEOUT_S)
    lookups = [started(partial(named.resolve, CHECK_TIMEOUT_S)) for named in parse_servers(given.server)]
    found = [address for lookup in lookups for address in lookup.result()]
    asked = [started(partial(_ask, address, bundle, how)) for address in found]
    codes = [_tell(address, answer, bundle, log) for address, answer in zip(found, asked, strict=True)]
    return next(filter(None, codes), 0)


def _ask(address: Address, bundle: Bundle, how: Connection) -> float:
    """Ask a server for an inference; the seconds that it took."""
    begin = time.perf_counter()
    contract = SegmenterContract.of(bundle)
    with GrpcSegmenter(address, contract, **how) as segmenter, _volumes:
        infer_zeros(segmenter, contract)
    return time.perf_counter() - begin


def _tell(address: Address, answer: Future[float], bundle: Bundle, log: EventLog) -> int:
    """Tell how a server answered; returns an exit code."""
    try:
        seconds = round(answer.result(), 3)
    except ServerBusyError as error:  # it answers: a probe that failed would take it away from those who wait
        log.tell("well", str(error), address=address.text)
    except Exception as error:
        code, message = explain(error)
        log.tell("failed", message, trouble=True, address=address.text, exit_code=code)
        return code
    else:
        message = f"{address.text} serves {bundle.name} {bundle.version}, answered in {seconds:.2f} s"
        log.tell("well", message, address=address.text, seconds=seconds)
    return 0
