"""What a server holds of a client that sends it images: recorded at the other end of a real connection.

Nothing here is made by the client's own code for messages: an allow-list says what the contract needs, and all else
that arrives is named, whoever put it there.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2

from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import GrpcSegmenter

_HEADERS = {
    "user-agent": re.compile(r"grpc-python/[\d.]+(rc\d+|dev\d+)? grpc-c/[\d.]+ \([a-z]+; chttp2\)"),
    "triton-grpc-protocol-token": re.compile(r"\S{16,256}"),
}
"""Of gRPC itself, and the token that all clients of a server share."""

_FIELDS = {
    "ModelConfig": {"name"},
    "ModelInfer": {
        "model_name", "model_version", "inputs.name", "inputs.datatype", "inputs.shape", "outputs.name",
        "raw_input_contents",
    },
}  # fmt: skip
_BYTES_PER_VALUE = 2


@dataclass(frozen=True)
class Call:
    """One call as the server got it: headers and the message's bytes."""

    method: str
    headers: tuple[tuple[str, str | bytes], ...]
    message: bytes = field(repr=False)


def identifying_parts(image: NDArray[np.float16], contract: SegmenterContract) -> list[str]:
    """Send an image (M, D, H, W) by the client's transport; names of what arrives beyond the contract."""
    with recording(contract) as (address, calls), GrpcSegmenter(address, contract) as segmenter:
        segmenter.segment(np.ascontiguousarray(image[None]))
    return [name for call in calls for name in beyond_contract(call, contract)]


@contextmanager
def recording(contract: SegmenterContract, listen: str | None = None) -> Iterator[tuple[str, list[Call]]]:
    """A server that answers zeros, on a socket of its own or where it is told: its address, and all calls that come."""
    calls: list[Call] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers((_Recorder(contract, calls),))
        address = listen or f"unix:{Path(folder) / 'socket'}"
        port = server.add_insecure_port(address)
        server.start()
        try:
            yield (re.sub(r":0$", f":{port}", address), calls)
        finally:
            server.stop(None).wait()


@dataclass(frozen=True)
class _Recorder:
    """gRPC's handler of every method, known or not; messages are bytes to it."""

    contract: SegmenterContract
    calls: list[Call]

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(partial(self._answer, details.method.rpartition("/")[2]))

    def _answer(self, method: str, message: bytes, context: Any) -> bytes:
        self.calls.append(
            Call(method, tuple((str(key), value) for key, value in context.invocation_metadata()), message)
        )
        if method == "ModelConfig":
            return self._config()
        if method == "ModelInfer":
            return self._zeros(service_pb2.ModelInferRequest.FromString(message))
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        raise AssertionError  # abort does not return

    def _config(self) -> bytes:
        contract, config = self.contract, model_config_pb2.ModelConfig(name=self.contract.model_name)
        for name, value in contract.parameters.items():
            config.parameters[name].string_value = value
        for tensors, spec in ((config.input, contract.mixture), (config.output, contract.segmentation_mixture)):
            tensors.add(name=spec.name, data_type=f"TYPE_{spec.dtype}", dims=spec.shape)
        return bytes(service_pb2.ModelConfigResponse(config=config).SerializeToString())

    def _zeros(self, request: Any) -> bytes:
        answer, spec = service_pb2.ModelInferResponse(), self.contract.segmentation_mixture
        count, _, *size = request.inputs[0].shape
        shape = (count, spec.shape[0], *size)
        answer.outputs.add(name=spec.name, datatype=spec.dtype, shape=shape)
        answer.raw_output_contents.append(bytes(math.prod(shape)))
        return bytes(answer.SerializeToString())


def beyond_contract(call: Call, contract: SegmenterContract) -> list[str]:
    """Names of what a call says that the contract does not need; never what it says.

    A header that is none of gRPC's or holds more than gRPC puts there; a field, known or not, that no request needs;
    a name, version or tensor that is not the contract's; bytes that are no part of the message.
    """
    found = [f"{call.method}: header {key}" for key, value in call.headers if not _is_usual(key, value)]
    if call.method not in _FIELDS:
        return [*found, f"{call.method}: the call"]
    kind = service_pb2.ModelConfigRequest if call.method == "ModelConfig" else service_pb2.ModelInferRequest
    message = kind.FromString(call.message)
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != call.message:
        found.append(f"{call.method}: bytes that are no field")
    found += [f"{call.method}: {name}" for name in sorted(set(_fields(message)) - _FIELDS[call.method])]
    checks = _checks(call.method, message, contract)
    return found + [f"{call.method}: {name} is another" for name, (said, needed) in checks.items() if said != needed]


def _is_usual(key: str, value: str | bytes) -> bool:
    form = _HEADERS.get(key)
    return form is not None and isinstance(value, str) and form.fullmatch(value) is not None


def _fields(message: Any, above: str = "") -> Iterator[str]:
    """Names of all fields that are set; of messages inside, their fields after a dot."""
    for descriptor, value in message.ListFields():
        name = f"{above}{descriptor.name}"
        kind = descriptor.message_type
        if kind is None or kind.GetOptions().map_entry:
            yield name
            continue
        for inner in value if hasattr(value, "add") else [value]:
            yield from list(_fields(inner, f"{name}.")) or [name]


def _checks(method: str, message: Any, contract: SegmenterContract) -> dict[str, tuple[Any, Any]]:
    """What a message says beside what it has to say, by the name of the field."""
    if method == "ModelConfig":
        return {"name": (message.name, contract.model_name)}
    size = _BYTES_PER_VALUE * math.prod(message.inputs[0].shape) if message.inputs else 0
    mixture, answer = contract.mixture, contract.segmentation_mixture
    return {
        "model_name": (message.model_name, contract.model_name),
        "model_version": (message.model_version, str(contract.model_version)),
        "inputs": ([(one.name, one.datatype) for one in message.inputs], [(mixture.name, mixture.dtype)]),
        "outputs": ([one.name for one in message.outputs], [answer.name]),
        "raw_input_contents": ([len(content) for content in message.raw_input_contents], [size]),
    }
