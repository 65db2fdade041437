"""Mixtures and their segmentations as KServe v2 messages, checked on the way out and on the way in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import IncompatibleServerError, InputError, printable
from mixpriv.wire.contract import SegmenterContract, TensorSpec

CONFIG_BYTES = 2**16
"""The most that a server may say of its network; tritonserver says some 2 KB."""

_BESIDE_BYTES = 2**16
"""The most that an answer has beside its tensors' contents: names, types and shapes."""

_VARINT, _SIZED = 0, 2
_FIXED = {1: 8, 5: 4}
"""How protobuf writes a field, in a key's lowest three bits: a number, a size and so many bytes, or 8 or 4 bytes."""

_RAW_CONTENTS = 6 << 3 | _SIZED
"""ModelInferResponse.raw_output_contents, in KServe v2."""


def encode_request(contract: SegmenterContract, mixture: NDArray[np.float16]) -> Any:
    """The request for one mixture: the network's name and version, the tensor, and nothing else.

    Raises
    ------
    InputError
        the mixture is not C-contiguous float16 (N, M, D, H, W) with sizes that are multiples of the contract's.

    Examples
    --------
    >>> from mixpriv.bundle import load_bundle
    >>> contract = SegmenterContract.of(load_bundle("hippocampus"))
    >>> request = encode_request(contract, np.zeros((1, *contract.mixture.shape), np.float16))
    >>> [input.name for input in request.inputs]
    ['mixture']
    """
    from tritonclient.grpc import service_pb2

    _check_mixture(contract, mixture)
    request = service_pb2.ModelInferRequest(model_name=contract.model_name, model_version=str(contract.model_version))
    request.inputs.add(name=contract.mixture.name, datatype=contract.mixture.dtype, shape=mixture.shape)
    request.outputs.add(name=contract.segmentation_mixture.name)
    request.raw_input_contents.append(mixture.tobytes())
    return request


def _check_mixture(contract: SegmenterContract, mixture: NDArray[np.float16]) -> None:
    channels, multiple = contract.mixture.shape[0], contract.multiple
    if mixture.dtype != np.float16 or not mixture.flags.c_contiguous:
        raise InputError(f"mixture: expected C-contiguous float16, got {mixture.dtype}")
    if mixture.ndim != 5 or mixture.shape[1] != channels or any(n == 0 or n % multiple for n in mixture.shape[2:]):
        raise InputError(
            f"mixture: expected shape (N, {channels}, D, H, W) with D, H, W multiples of {multiple}, "
            f"got {mixture.shape}"
        )


def answer_bytes(contract: SegmenterContract, request: Any) -> int:
    """The most bytes that an answer to a request has."""
    return math.prod(_answer_shape(contract, request)) + _BESIDE_BYTES


def decode_answer(contract: SegmenterContract, request: Any, answer: bytes, server: str) -> NDArray[np.uint8]:
    """The segmentation mixture (N, C-1, D, H, W) uint8, read-only, of an answer to a request.

    Raises
    ------
    IncompatibleServerError
        the answer is none of the request's shape, is another network's, or holds no probabilities.
    """
    spec, shape = contract.segmentation_mixture, _answer_shape(contract, request)
    try:
        beside, contents = _parts(answer)
        message = _parsed("ModelInferResponse", beside)
    except ValueError:
        raise IncompatibleServerError(f"server {server} answered something that is no inference response") from None
    for what in ("model_name", "model_version"):
        said, asked = getattr(message, what), getattr(request, what)
        if said not in ("", asked):
            raise IncompatibleServerError(f"server {server} answered for {what} {printable(said, 80)}, not for {asked}")
    got = [(output.name, output.datatype, tuple(output.shape)) for output in message.outputs]
    if got != [(spec.name, spec.dtype, shape)] or [len(c) for c in contents] != [math.prod(shape)]:
        raise IncompatibleServerError(f"server {server} answered without a {spec.name} of {spec.dtype} {shape}")
    probabilities = np.frombuffer(contents[0], np.uint8).reshape(shape)
    # Each of the C-1 values may be rounded up by a half.
    if probabilities.sum(axis=1, dtype=np.uint16).max() > 255 + shape[1] / 2:
        raise IncompatibleServerError(f"server {server} answered probabilities that exceed 1 in sum")
    return probabilities


def decode_config(answer: bytes, server: str) -> tuple[Mapping[str, str], tuple[TensorSpec, ...]]:
    """Parameters and tensors that a server's model configuration tells, to compare with the contract.

    Raises
    ------
    IncompatibleServerError
        it is no configuration.
    """
    try:
        config = _parsed("ModelConfigResponse", answer).config
    except ValueError:
        raise IncompatibleServerError(f"server {server} answered something that is no model configuration") from None
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    tensors = tuple(TensorSpec(t.name, _type_name(t.data_type), tuple(t.dims)) for t in (*config.input, *config.output))
    return parameters, tensors


def _answer_shape(contract: SegmenterContract, request: Any) -> tuple[int, ...]:
    asked = tuple(request.inputs[0].shape)
    return (asked[0], contract.segmentation_mixture.shape[0], *asked[2:])


def _type_name(number: int) -> str:
    """KServe's name of a type; a number stays one where there is no such type."""
    from tritonclient.grpc import model_config_pb2

    types = model_config_pb2.DataType
    return str(types.Name(number)).removeprefix("TYPE_") if number in types.values() else str(number)


def _parsed(kind: str, data: bytes) -> Any:
    """A message of tritonclient's; `ValueError` if it is none."""
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2

    try:
        return getattr(service_pb2, kind).FromString(data)
    except DecodeError:
        raise ValueError(kind) from None


def _parts(answer: bytes) -> tuple[bytes, list[memoryview]]:
    """What an answer has beside its tensors' contents, as a message of its own, and these, which are not copied.

    A message of volumes' size that holds many small ones would take a hundred times its size once it is parsed.

    Raises
    ------
    ValueError
        it is no message, or has more than `_BESIDE_BYTES` beside the contents.
    """
    view, at = memoryview(answer), 0
    beside, contents = bytearray(), list[memoryview]()
    while at < len(view):
        begin = at
        key, at = _varint(view, at)
        kind, size = key & 7, 0
        if kind == _VARINT:
            _, at = _varint(view, at)
        elif kind == _SIZED:
            size, at = _varint(view, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError("neither a number nor of a known size")
        at += size
        if at > len(view):
            raise ValueError("cut short")
        if key == _RAW_CONTENTS:
            contents.append(view[at - size : at])
        else:
            beside += view[begin:at]
        if len(beside) + len(contents) > _BESIDE_BYTES:
            raise ValueError("more than an answer has")
    return bytes(beside), contents


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A protobuf number, and where it ends."""
    number = 0
    for position, byte in enumerate(view[at : at + 10]):
        number |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return number, at + position + 1
    raise ValueError("a number without an end")
