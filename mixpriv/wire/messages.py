"""Mixtures and their segmentations as KServe v2 messages, checked on the way out and on the way in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import IncompatibleServerError, InputError
from mixpriv.wire.contract import SegmenterContract, TensorSpec


def encode_request(contract: SegmenterContract, mixture: NDArray[np.float16]) -> Any:
    """The request for one mixture: the network's name and version, the tensor, and nothing else.

    Raises
    ------
    InputError
        the mixture is not C-contiguous float16 (N, M, D, H, W) with sizes that are multiples of the contract's.
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


def decode_answer(contract: SegmenterContract, request: Any, answer: Any, server: str) -> NDArray[np.uint8]:
    """The segmentation mixture (N, C-1, D, H, W) uint8, read-only, of an answer to a request.

    Raises
    ------
    IncompatibleServerError
        the answer is none of the request's shape, or holds no probabilities.
    """
    spec = contract.segmentation_mixture
    asked = tuple(request.inputs[0].shape)
    shape = (asked[0], spec.shape[0], *asked[2:])
    got = [(output.name, output.datatype, tuple(output.shape)) for output in answer.outputs]
    contents = list(answer.raw_output_contents)  # each look at one copies it
    if got != [(spec.name, spec.dtype, shape)] or [len(c) for c in contents] != [int(np.prod(shape))]:
        raise IncompatibleServerError(f"server {server} answered without a {spec.name} of {spec.dtype} {shape}")
    probabilities = np.frombuffer(contents[0], np.uint8).reshape(shape)
    # Each of the C-1 values may be rounded up by a half.
    if probabilities.sum(axis=1, dtype=np.uint16).max() > 255 + shape[1] / 2:
        raise IncompatibleServerError(f"server {server} answered probabilities that exceed 1 in sum")
    return probabilities


def decode_config(config: Any) -> tuple[Mapping[str, str], tuple[TensorSpec, ...]]:
    """Parameters and tensors that a server's model configuration tells, to compare with the contract."""
    from tritonclient.grpc import model_config_pb2

    parameters = {name: value.string_value for name, value in config.parameters.items()}
    tensors = tuple(
        TensorSpec(t.name, model_config_pb2.DataType.Name(t.data_type).removeprefix("TYPE_"), tuple(t.dims))
        for t in (*config.input, *config.output)
    )
    return parameters, tensors
