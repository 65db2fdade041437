"""A KServe v2 server in this process that answers what a test wants."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from mixpriv.wire.contract import SegmenterContract


class FakeServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Says that it serves `contract` and answers what `answer` makes; remembers the mixtures and headers that came."""

    def __init__(self, contract: SegmenterContract, answer: Callable[[Any], Any]) -> None:
        self.contract = contract
        self.answer = answer
        self.requests: list[Any] = []
        self.metadata: list[Any] = []

    def bind(self) -> grpc.Server:
        """A server that is neither listening nor started yet."""
        running = grpc.server(ThreadPoolExecutor(2))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, running)
        return running

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by KServe
        self.metadata.append(context.invocation_metadata())
        return self.config(request)

    def config(self, request: Any) -> Any:
        config = model_config_pb2.ModelConfig(name=request.name)
        for name, value in self.contract.parameters.items():
            config.parameters[name].string_value = value
        for tensors, spec in (
            (config.input, self.contract.mixture),
            (config.output, self.contract.segmentation_mixture),
        ):
            tensors.add(name=spec.name, data_type=f"TYPE_{spec.dtype}", dims=spec.shape)
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by KServe
        self.metadata.append(context.invocation_metadata())
        self.requests.append(request)
        return self.answer(context)


def response(array: np.ndarray, *, name: str = "segmentation_mixture", dtype: str = "UINT8", cut: int = 0) -> Any:
    message = service_pb2.ModelInferResponse()
    message.outputs.add(name=name, datatype=dtype, shape=array.shape)
    message.raw_output_contents.append(array.tobytes()[cut:])
    return message
