"""A short form of the fuzzing, and requests that did harm once."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from tests.fuzz import requests
from tests.fuzz.requests import Call

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra")
Send = Callable[[Call], None]


@pytest.fixture(scope="module")
def send() -> Iterator[Send]:
    with requests.target() as send:
        yield send


def test_a_server_survives_requests_of_every_form(send: Send) -> None:
    for number in range(300):
        send(requests.example(np.random.default_rng([0, number])))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 1, -16, -16, 16), 8192),
        ((1, 1, -64, -80, 64), 2 * 64 * 80 * 64),
        ((1, 1, 2**32, 2**32, 1), 0),
        ((1, 1, 0, 16, 16), 0),
        ((-1, -1, 64, 80, 64), 2 * 64 * 80 * 64),
        ((1, 1, 256, 256, 256), 2 * 256**3),
        ((8, 1, 64, 80, 64), 16 * 64 * 80 * 64),
    ],
)
def test_sizes_that_are_not_the_grids_are_refused_at_once(send: Send, shape: tuple[int, ...], size: int) -> None:
    """The first ended the model process, six of them the server; a large one was computed for half a minute."""
    request = service_pb2.ModelInferRequest(model_name=requests.MODEL)
    request.inputs.add(name="mixture", datatype="FP16", shape=shape)
    request.raw_input_contents.append(bytes(size))
    begin = time.monotonic()
    for _ in range(3):
        send(Call("ModelInfer", request.SerializeToString()))
    assert time.monotonic() - begin < 5
