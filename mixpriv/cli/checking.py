"""``mixpriv-server check``: a real inference at each server, for probes and people."""

from __future__ import annotations

import argparse
import time

from mixpriv.bundle import Bundle
from mixpriv.cli.options import connection
from mixpriv.errors import MixprivError, ServerBusyError
from mixpriv.server.events import EventLog
from mixpriv.server.health import infer_zeros
from mixpriv.wire.address import parse_servers
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import CHECK_TIMEOUT_S, GrpcSegmenter

DEFAULT_TIMEOUT_S = 30.0


def check(bundle: Bundle, given: argparse.Namespace, log: EventLog) -> int:
    """Ask every server of ``--server`` once and tell each answer; returns the first failure's exit code, or 0."""
    contract = SegmenterContract.of(bundle)
    how = connection(given, timeout_s=DEFAULT_TIMEOUT_S)
    codes = []
    for address in (found for named in parse_servers(given.server) for found in named.resolve(CHECK_TIMEOUT_S)):
        begin = time.perf_counter()
        try:
            with GrpcSegmenter(address, contract, **how) as segmenter:
                infer_zeros(segmenter, contract)
        except ServerBusyError as error:  # it answers: a probe that failed would take it away from those who wait
            log.tell("well", str(error), address=address.text)
        except MixprivError as error:
            codes.append(error.exit_code)
            log.tell("failed", str(error), trouble=True, address=address.text, exit_code=error.exit_code)
        else:
            seconds = round(time.perf_counter() - begin, 3)
            message = f"{address.text} serves {bundle.name} {bundle.version}, answered in {seconds:.2f} s"
            log.tell("well", message, address=address.text, seconds=seconds)
    return next(iter(codes), 0)
