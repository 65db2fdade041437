"""The transport against servers that misbehave; tests/server has the real one."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from mixpriv.errors import IncompatibleServerError, InputError, ServerLostError, ServerUnavailableError
from mixpriv.wire.contract import SegmenterContract, TensorSpec
from mixpriv.wire.transport import GrpcSegmenter
from tests.wire.fakeserver import FakeServer, response

SHAPE = (1, 1, 16, 16, 16)
ANSWER = (1, 5, 16, 16, 16)


@contextmanager
def connected(contract: SegmenterContract, server: FakeServer, timeout_s: float = 5) -> Iterator[GrpcSegmenter]:
    running = server.bind()
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        with GrpcSegmenter(f"127.0.0.1:{port}", contract, timeout_s=timeout_s) as segmenter:
            yield segmenter
    finally:
        running.stop(None).wait()


def mixture() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, np.float32).astype(np.float16)


class TestRequest:
    def test_holds_the_mixture_the_version_and_nothing_else(self, contract: SegmenterContract) -> None:
        server = FakeServer(contract, lambda context: response(np.full(ANSWER, 7, np.uint8)))
        with connected(contract, server) as segmenter:
            answer = segmenter.segment(mixture())
        np.testing.assert_array_equal(answer, np.full(ANSWER, 7))
        (request,) = server.requests
        assert request.model_version == str(contract.model_version)
        assert request.raw_input_contents[0] == mixture().tobytes()
        assert not request.id
        assert not request.parameters

    def test_of_several_threads_at_once(self, contract: SegmenterContract) -> None:
        """Over one connection; one that fails does not take the others along."""
        calls = iter(range(100))

        def answer(context: Any) -> Any:
            if next(calls) == 3:
                context.abort(grpc.StatusCode.INTERNAL, "out of memory")
            time.sleep(0.05)
            return response(np.full(ANSWER, 7, np.uint8))

        server = FakeServer(contract, answer)
        with connected(contract, server) as segmenter, ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(segmenter.segment, mixture()) for _ in range(8)]
            errors = [one.exception() for one in asked]
        assert [str(error) for error in errors if error] == [
            f"server {segmenter.address} failed (INTERNAL): out of memory"
        ]

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (np.zeros(SHAPE, np.float32), "expected C-contiguous float16, got float32"),
            (np.zeros((1, 1, 16, 16, 32), np.float16)[..., ::2], "expected C-contiguous float16"),
            (np.zeros((1, 1, 16, 16, 20), np.float16), r"multiples of 16, got \(1, 1, 16, 16, 20\)"),
            (np.zeros((1, 2, 16, 16, 16), np.float16), r"expected shape \(N, 1, D, H, W\)"),
            (np.zeros((16, 16, 16), np.float16), r"got \(16, 16, 16\)"),
        ],
    )
    def test_is_refused_here_if_malformed(self, contract: SegmenterContract, bad: np.ndarray, message: str) -> None:
        with GrpcSegmenter("127.0.0.1:1", contract) as segmenter, pytest.raises(InputError, match=message):
            segmenter.segment(bad)


class TestOtherNetwork:
    @pytest.mark.parametrize("change", [{"fingerprint": "0" * 64}, {"classes": "[]"}])
    def test_gets_no_voxel(self, contract: SegmenterContract, change: dict[str, str]) -> None:
        other = replace(contract, parameters={**contract.parameters, **change})
        server = FakeServer(other, lambda context: response(np.zeros(ANSWER, np.uint8)))
        with connected(contract, server) as segmenter:
            with pytest.raises(IncompatibleServerError, match="is incompatible: it"):
                segmenter.segment(mixture())
            server.contract = contract
            segmenter.check()
            server.contract = other  # a server swapped in later
            with pytest.raises(IncompatibleServerError, match="is incompatible: it"):
                segmenter.segment(mixture())
        assert not server.requests

    def test_is_known_by_its_tensors(self, contract: SegmenterContract) -> None:
        other = replace(contract, mixture=TensorSpec("mixture", "FP32", (1, -1, -1, -1)))
        with (
            connected(contract, FakeServer(other, lambda context: None)) as segmenter,
            pytest.raises(IncompatibleServerError, match="its tensors are mixture FP32"),
        ):
            segmenter.check()


BAD_ANSWERS = [
    response(np.zeros(ANSWER, np.uint8), name="other"),
    response(np.zeros(ANSWER, np.float32), dtype="FP32"),
    response(np.zeros((1, 4, 16, 16, 16), np.uint8)),
    response(np.zeros(ANSWER, np.uint8), cut=1),
    response(np.zeros(ANSWER, np.uint8), cut=int(np.prod(ANSWER))),
    service_pb2.ModelInferResponse(),
]


class TestAnswer:
    @pytest.mark.parametrize("answer", BAD_ANSWERS)
    def test_must_be_what_was_asked_for(self, contract: SegmenterContract, answer: Any) -> None:
        with (
            connected(contract, FakeServer(contract, lambda context: answer)) as segmenter,
            pytest.raises(IncompatibleServerError, match="answered without a segmentation_mixture of UINT8"),
        ):
            segmenter.segment(mixture())

    def test_must_be_probabilities(self, contract: SegmenterContract) -> None:
        levels = np.zeros(ANSWER, np.uint8)
        levels[0, :, 3, 4, 5] = [51, 51, 51, 51, 53]  # 257: rounding can do that
        server = FakeServer(contract, lambda context: response(levels))
        with connected(contract, server) as segmenter:
            segmenter.segment(mixture())
            levels[0, 0, 3, 4, 5] = 52
            with pytest.raises(IncompatibleServerError, match="exceed 1 in sum"):
                segmenter.segment(mixture())


class TestFailure:
    def test_of_a_server_that_is_not_there(self, contract: SegmenterContract) -> None:
        with GrpcSegmenter("127.0.0.1:1", contract, timeout_s=5) as segmenter:
            started = time.monotonic()
            with pytest.raises(ServerUnavailableError, match=r"server 127\.0\.0\.1:1 cannot be reached"):
                segmenter.check()
        assert time.monotonic() - started < 3

    def test_of_a_server_that_closes_at_once(
        self, contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a container's proxy does while nobody is behind it: the connection is gone before we look at it."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
            theirs.close()
        with pytest.raises(ConnectionResetError):
            ours.recv(1)
        monkeypatch.setattr("mixpriv.wire.connection.dial", lambda *arguments, **options: ours)
        with (
            GrpcSegmenter("127.0.0.1:1", contract) as segmenter,
            pytest.raises(ServerLostError, match=r"^server 127\.0\.0\.1:1 closed the connection"),
        ):
            segmenter.check()

    def test_of_a_server_that_does_not_answer(self, contract: SegmenterContract) -> None:
        with connected(contract, FakeServer(contract, lambda context: time.sleep(1.5)), timeout_s=0.5) as segmenter:
            started = time.monotonic()
            with pytest.raises(ServerUnavailableError, match="gave no answer in time"):
                segmenter.segment(mixture())
            assert time.monotonic() - started < 1

    def test_says_what_the_server_said(self, contract: SegmenterContract) -> None:
        def full(context: Any) -> Any:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

        with (
            connected(contract, FakeServer(contract, full)) as segmenter,
            pytest.raises(ServerUnavailableError, match="is busy: its queue is full"),
        ):
            segmenter.segment(mixture())
