"""Whether a tritonserver is well, found out by asking it for an inference, and what it has served."""

from __future__ import annotations

import time

import numpy as np

from mixpriv.errors import IncompatibleServerError, ServerBusyError, ServerUnavailableError
from mixpriv.server.events import EventLog
from mixpriv.server.statistics import Statistics, read_statistics
from mixpriv.server.triton import TritonServer
from mixpriv.wire.address import Address
from mixpriv.wire.channel import open_channel
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import CHECK_TIMEOUT_S, GrpcSegmenter, Segmenter

PROBE_EVERY_S = 60.0
PROBE_TIMEOUT_S = 300.0
"""Longer than a request may have to wait in the queue behind others."""

_LOOK_EVERY_S = 0.25


def watch(server: TritonServer, events: EventLog) -> str:
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
            served = tell_served(server, events)
            next_probe = time.monotonic() + PROBE_EVERY_S
        if reason is not None:
            return server.lost() or reason
        server.cut_log()
        time.sleep(_LOOK_EVERY_S)


def probe(server: TritonServer) -> str | None:
    """Ask for a real inference; says what is wrong, None if the server is well or does not let us in."""
    side = server.access.client_side()
    if side is None:
        return None
    try:
        with GrpcSegmenter(server.own_address, server.contract, timeout_s=PROBE_TIMEOUT_S, **side) as segmenter:
            infer_zeros(segmenter, server.contract)
    except ServerBusyError:
        return None
    except (ServerUnavailableError, IncompatibleServerError) as error:
        return str(error)
    return None


def infer_zeros(segmenter: Segmenter, contract: SegmenterContract) -> None:
    """One inference on zeros, of the only size that a server takes; the segmenter's errors if it fails."""
    segmenter.segment(np.zeros((1, *contract.mixture.shape), np.float16))


def tell_served(server: TritonServer, events: EventLog) -> int | None:
    """Tell how many requests were served, and where their time went; returns how many, None if that is not known."""
    served = statistics(server)
    if served is None:
        return None
    facts = {name: round(value, 3) for name, value in vars(served).items()}
    events.tell("served", f"{served.requests} requests served, {served.failures} failed", **facts)
    return served.requests


def statistics(server: TritonServer) -> Statistics | None:
    """What a server has served so far; None if it does not let us in, or does not answer."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    side = server.access.client_side()
    if side is None:
        return None
    with open_channel(Address.parse(server.own_address), side["tls"]) as channel:
        calls = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelStatisticsRequest(name=server.contract.model_name)
        try:
            answer = calls.ModelStatistics(request, timeout=CHECK_TIMEOUT_S, metadata=server.admin.metadata)
        except grpc.RpcError:
            return None
        return read_statistics(answer)
