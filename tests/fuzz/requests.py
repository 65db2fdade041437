"""Requests of every shape, type and form to a real tritonserver: it refuses them, and goes on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from mixpriv.server.triton import TritonServer
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.messages import encode_request
from tests.support.toybundle import write_toy_bundle

MODEL, GRID, CLASSES = "toy-t1_segmenter", (64, 80, 64), 6
SERVICE = "/inference.GRPCInferenceService/"
CALLS = ("ServerLive", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelStatistics", "RepositoryIndex",
         "RepositoryModelLoad", "RepositoryModelUnload", "SystemSharedMemoryRegister", "CudaSharedMemoryStatus",
         "TraceSetting", "LogSettings", "ModelConfig", "Nothing")  # fmt: skip
TYPES = ("FP16", "FP32", "FP64", "BF16", "INT8", "INT64", "UINT8", "BOOL", "BYTES", "", "fp16", "FP16\0", "X" * 500)
NAMES = ("mixture", "", "Mixture", "segmentation_mixture", "../mixture", "\0", "mixture\n", "ü" * 300)
SIZES = (-(2**63), -(2**32), -64, -16, -1, 0, 1, 2, 16, 63, 64, 65, 80, 2**16, 2**31, 2**32, 2**62, 2**63 - 1)
REFUSALS = ("INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "UNIMPLEMENTED", "INTERNAL", "RESOURCE_EXHAUSTED")
"""The last where a refusal repeats a name that is longer than gRPC lets a refusal be."""

MOST_BYTES = 2**21
EVERY = 100
"""After so many an ordinary request must get its ordinary answer."""


@dataclass(frozen=True)
class Call:
    """What is called, with which bytes; a stream where it is called so."""

    method: str
    body: bytes
    streams: bool = False


def pick(random: np.random.Generator, values: Any) -> Any:
    return values[int(random.integers(len(values)))]


def shape(random: np.random.Generator) -> list[int]:
    """Near the right one, or far from it: other sizes, signs that cancel, products that overflow, other ranks."""
    right = [1, 1, *GRID]
    kind = int(random.integers(5))
    if kind == 0:
        return right
    if kind == 1:
        return [pick(random, SIZES) if random.random() < 0.4 else size for size in right]
    if kind == 2:
        return [size * int(random.choice([-1, 1])) for size in right]
    if kind == 3:
        return [pick(random, SIZES) for _ in range(int(random.integers(0, 9)))]
    return [int(random.permutation(right)[0]) for _ in right]


def add_input(random: np.random.Generator, request: Any) -> None:
    wanted = shape(random)
    name = "mixture" if random.random() < 0.8 else pick(random, NAMES)
    dtype = "FP16" if random.random() < 0.7 else pick(random, TYPES)
    given = request.inputs.add(name=name, datatype=dtype, shape=wanted)
    if random.random() < 0.1:
        field = pick(random, ("fp32_contents", "int64_contents", "uint_contents", "bool_contents", "bytes_contents"))
        getattr(given.contents, field).extend([b"x"] * 3 if field == "bytes_contents" else [1, 0, 1])
    if random.random() < 0.1:
        add_parameters(random, given.parameters)
    if random.random() < 0.9:
        size = 2 * int(np.prod(np.abs(wanted), dtype=np.float64).clip(0, MOST_BYTES // 2))
        size = size if random.random() < 0.8 else int(random.integers(0, 9000))
        content = bytes(size) if random.random() < 0.5 else random.bytes(size)
        request.raw_input_contents.append(content)


PARAMETERS = (
    *("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification", "sequence_id"),
    *("sequence_start", "priority", "timeout", "binary_data", "triton_x", "", "x" * 99),
)


def add_parameters(random: np.random.Generator, parameters: Any) -> None:
    name = pick(random, PARAMETERS)
    kind = pick(random, ("int64_param", "string_param", "bool_param"))
    value = {"int64_param": pick(random, SIZES), "string_param": pick(random, NAMES), "bool_param": True}[kind]
    setattr(parameters[name], kind, value)


def request(random: np.random.Generator) -> Any:
    model = MODEL if random.random() < 0.95 else pick(random, NAMES)
    made = service_pb2.ModelInferRequest(model_name=model)
    if random.random() < 0.1:
        made.model_version = pick(random, ("1", "-1", "x", "9" * 30, "../1"))
    if random.random() < 0.1:
        made.id = "i" * int(random.integers(1, 10_000))
    for _ in range(int(random.choice([0, 1, 1, 1, 1, 1, 1, 2, 3]))):
        add_input(random, made)
    for _ in range(int(random.choice([0, 0, 0, 0, 1, 2]))):
        output = made.outputs.add(name=pick(random, ("segmentation_mixture", *NAMES)))
        if random.random() < 0.5:
            add_parameters(random, output.parameters)
    if random.random() < 0.15:
        add_parameters(random, made.parameters)
    return made


def example(random: np.random.Generator) -> Call:
    kind = random.random()
    if kind < 0.05:
        return Call(pick(random, CALLS), b"" if random.random() < 0.5 else random.bytes(int(random.integers(1, 200))))
    body = request(random).SerializeToString()
    if kind < 0.1:  # cut, changed or followed by anything
        place = int(random.integers(0, min(len(body), 400) + 1))
        body = pick(random, (body[:place], body[:place] + random.bytes(8) + body[place + 8 :], body + random.bytes(20)))
    return Call("ModelStreamInfer" if kind > 0.95 else "ModelInfer", body, streams=kind > 0.95)


def outcome(channel: Any, call: Call) -> tuple[str, str]:
    """The status of a call, and what the server said."""
    try:
        if call.streams:
            list(channel.stream_stream(SERVICE + call.method)(iter([call.body]), timeout=10))
        else:
            channel.unary_unary(SERVICE + call.method)(call.body, timeout=10)
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


@contextmanager
def target() -> Iterator[Callable[[Any], None]]:
    """Sends an example, and fails unless it is answered or refused in time by a server that stays well."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_toy_bundle(Path(folder))
        with TritonServer(bundle, stop_timeout_s=0) as server, grpc.insecure_channel(server.address) as channel:
            contract = SegmenterContract.of(bundle)
            mixture = np.random.default_rng(0).random((1, 1, *bundle.grid_shape), np.float32).astype(np.float16)
            ordinary = encode_request(contract, mixture)
            infer = channel.unary_unary(
                f"{SERVICE}ModelInfer", type(ordinary).SerializeToString, service_pb2.ModelInferResponse.FromString
            )
            expected = infer(ordinary, timeout=10).raw_output_contents[0]
            sent = 0

            def send(call: Call) -> None:
                nonlocal sent
                sent += 1
                status, details = outcome(channel, call)
                assert status in ("OK", *REFUSALS), f"{status}: {details}"
                assert "stub" not in details.lower(), details
                assert server.lost() is None, server.lost()
                if sent % EVERY == 0:
                    assert infer(ordinary, timeout=10).raw_output_contents[0] == expected

            yield send
