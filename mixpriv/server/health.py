"""What a tritonserver answers when it is asked: whether it is well, by an inference, and what it has served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixpriv.errors import IncompatibleServerError, ServerBusyError, ServerUnavailableError
from mixpriv.server.triton import TritonServer
from mixpriv.wire.address import Address
from mixpriv.wire.channel import open_channel
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import CHECK_TIMEOUT_S, GrpcSegmenter, Segmenter

PROBE_TIMEOUT_S = 300.0
"""Longer than a request may have to wait in the queue behind others."""


@dataclass(frozen=True)
class Statistics:
    """Sums over all requests of a model since its server started; seconds.

    Attributes
    ----------
    requests, failures : answered, and answered with an error
    executions : inferences; fewer than requests where Triton made batches
    queue_s : waiting for the model
    input_s, infer_s, output_s : Triton's copying in, the model itself, copying out
    busy_s : during which an execution was under way; of a batch counted once
    """

    requests: int
    failures: int
    executions: int
    queue_s: float
    input_s: float
    infer_s: float
    output_s: float
    busy_s: float

    def since(self, earlier: Statistics) -> Statistics:
        """What came after an earlier reading."""
        return Statistics(*(now - then for now, then in zip(_values(self), _values(earlier), strict=True)))


def _values(statistics: Statistics) -> tuple[Any, ...]:
    return tuple(vars(statistics).values())


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
        return _read_statistics(answer)


def _read_statistics(answer: Any) -> Statistics:
    """Sum up a ModelStatisticsResponse."""
    nanoseconds = 1e-9
    models = answer.model_stats

    def seconds(name: str) -> float:
        return float(sum(getattr(model.inference_stats, name).ns for model in models)) * nanoseconds

    return Statistics(
        requests=sum(model.inference_stats.success.count for model in models),
        failures=sum(model.inference_stats.fail.count for model in models),
        executions=sum(model.execution_count for model in models),
        queue_s=seconds("queue"),
        input_s=seconds("compute_input"),
        infer_s=seconds("compute_infer"),
        output_s=seconds("compute_output"),
        busy_s=nanoseconds
        * sum(
            batch.compute_input.ns + batch.compute_infer.ns + batch.compute_output.ns
            for model in models
            for batch in model.batch_stats
        ),
    )
