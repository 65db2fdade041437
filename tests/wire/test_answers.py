"""Servers that answer oddly: each is an error of ours in one printable line, and another server is asked."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from mixpriv.errors import IncompatibleServerError, MixprivError, ServerLostError, ServerUnavailableError
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.transport import GrpcSegmenter
from tests.wire.fakeserver import FakeServer, response
from tests.wire.http2 import GOOD_HEADERS, Http2Server, Reply, failure, good_answer, good_config

ANSWER = (1, 5, 16, 16, 16)
OTHER, REFUSED, LOST = IncompatibleServerError, ServerUnavailableError, ServerLostError
ZEROS = np.zeros(ANSWER, np.uint8)
BOMB = gzip.compress(bytes(2**27), 1)


def mixture() -> np.ndarray:
    return np.zeros((1, 1, *ANSWER[2:]), np.float16)


def config(contract: SegmenterContract, change: Callable[[Any], object] = lambda config: None) -> bytes:
    message = service_pb2.ModelConfigResponse.FromString(good_config(FakeServer(contract, lambda context: None)))
    change(message.config)
    return bytes(message.SerializeToString())


def answer(change: Callable[[Any], object], array: np.ndarray = ZEROS) -> Reply:
    message = response(array)
    change(message)
    return Reply([message.SerializeToString()])


def set_to(what: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(what, name, value)


GZIP = (*GOOD_HEADERS, (b"grpc-encoding", b"gzip"))
BROKEN = [
    (Reply(), OTHER, "answered nothing"),
    (failure(99, b"what"), REFUSED, r"failed \(UNKNOWN\): .*what"),
    (failure(13, b"%1b[31mred%1b%0a%e2%80%ae"), REFUSED, r"failed \(INTERNAL\): .*\[31mred"),
    (failure(13, b"\xff\xfe%ff"), REFUSED, r"failed \(INTERNAL\)"),
    (failure(14, b"last error: %0d%1b]0;title%07"), LOST, "cannot be reached or closed the connection"),
    (Reply(headers=((b":status", b"503"), (b"content-type", b"text/html"))), LOST, "503"),
    (Reply([b"x"], trailers=None, close=True), LOST, "closed the connection"),
    (Reply([BOMB], flag=1, headers=GZIP), OTHER, "answers in a compressed form"),
    (Reply([b"\xff" * 20]), OTHER, "answered something that is no "),
    (Reply([b"\x0b\x00"]), OTHER, "answered something that is no "),
    (Reply([b"x" * 2**20]), OTHER, r"answered more than the \d+ bytes expected"),
]
"""To the check, or to a request."""

ODD_ANSWERS = [
    (answer(lambda m: m.raw_output_contents.append(b"")), "answered without a segmentation_mixture"),
    (answer(lambda m: m.raw_output_contents.append(b"1")), "answered without a segmentation_mixture"),
    (answer(lambda m: m.outputs.add()), "answered without a segmentation_mixture"),
    (answer(lambda m: set_to(m.outputs[0], datatype="FP32")), "answered without a segmentation_mixture"),
    (answer(lambda m: set_to(m.outputs[0], name="\x1b[2J")), "answered without a segmentation_mixture"),
    (answer(lambda m: m.outputs[0].shape.append(2**62)), "answered without a segmentation_mixture"),
    (answer(lambda m: m.ClearField("raw_output_contents")), "answered without a segmentation_mixture"),
    (
        answer(lambda m: set_to(m, model_name="\x1bother")),
        r"answered for model_name \\x1bother, not for toy",
    ),
    (answer(lambda m: set_to(m, model_version="2")), r"answered for model_version 2, not for \d+"),
    (answer(lambda m: None, ZEROS + 255), "answered probabilities that exceed 1 in sum"),
    (Reply([response(ZEROS).SerializeToString() + b"\x32\xff\xff\xff\xff\x0f"]), "answered something that is no inf"),
    (Reply([b"\x2a\x00" * (2**15 + 1)]), "answered something that is no inference response"),
    (Reply([b"\x0a\x02\xff\xfe"]), "answered something that is no inference response"),
]

ODD_CONFIGS: list[tuple[Callable[[Any], object], str]] = [
    (lambda c: set_to(c.input[0], data_type=99), r"its tensors are mixture 99 \["),
    (lambda c: set_to(c.input[0], data_type=0), r"its tensors are mixture INVALID \["),
    (lambda c: c.input[0].dims.append(2**62), r"its tensors are mixture FP16 \[1, .*4611686018427387904\]"),
    (lambda c: c.ClearField("output"), "its tensors are mixture"),
    (lambda c: c.ClearField("parameters"), "a network without a fingerprint"),
    (lambda c: set_to(c.parameters["bundle"], string_value="\x1b[31m\n"), "its bundle is "),
    (lambda c: set_to(c.parameters["fingerprint"], string_value="\x1b\n" * 1000), "it serves toy-t1"),
    (lambda c: [c.input.add() for _ in range(10**4)], "its tensors are mixture"),
]


def judge(contract: SegmenterContract, kind: type[MixprivError], message: str, *replies: Reply) -> Http2Server:
    """Ask such a server alone, then beside a good one."""
    with Http2Server(*replies) as bad:
        with (
            GrpcSegmenter(bad.address, contract, timeout_s=5) as segmenter,
            pytest.raises(kind, match=rf"^server {bad.address} .*({message})") as caught,
        ):
            segmenter.segment(mixture())
        assert caught.type is kind
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600
        good = Reply([config(contract)]), Reply([good_answer(ZEROS + 7)])
        with Http2Server(*good) as well:
            addresses = [Address.parse(bad.address), Address.parse(well.address)]
            with ServerPool(addresses, contract, timeout_s=5) as pool:
                assert pool.segment(mixture()).max() == 7
    return bad


@pytest.fixture(autouse=True)
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.randbelow", lambda n: 0)


class TestAnswers:
    @pytest.mark.parametrize(("reply", "kind", "message"), BROKEN)
    def test_to_the_check_that_are_broken(
        self, contract: SegmenterContract, reply: Reply, kind: type[MixprivError], message: str
    ) -> None:
        bad = judge(contract, kind, message, reply)
        assert all(len(request) < 100 for request in bad.requests)  # no voxel

    @pytest.mark.parametrize(("reply", "kind", "message"), BROKEN)
    def test_to_a_request_that_are_broken(
        self, contract: SegmenterContract, reply: Reply, kind: type[MixprivError], message: str
    ) -> None:
        judge(contract, kind, message, Reply([config(contract)]), reply)

    @pytest.mark.parametrize(("change", "message"), ODD_CONFIGS)
    def test_that_are_odd_configurations(
        self, contract: SegmenterContract, change: Callable[[Any], object], message: str
    ) -> None:
        bad = judge(contract, OTHER, message, Reply([config(contract, change)]))
        assert all(len(request) < 100 for request in bad.requests)

    @pytest.mark.parametrize(("reply", "message"), ODD_ANSWERS)
    def test_that_are_odd_segmentations(self, contract: SegmenterContract, reply: Reply, message: str) -> None:
        judge(contract, OTHER, message, Reply([config(contract)]), reply)

    @pytest.mark.parametrize("first", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", bytes(100), b""])
    def test_of_what_is_no_such_server(self, contract: SegmenterContract, first: bytes) -> None:
        with Http2Server() as other:
            other.first = first
            with (
                GrpcSegmenter(other.address, contract, timeout_s=5) as segmenter,
                pytest.raises(REFUSED, match=f"^server {other.address} ") as caught,
            ):
                segmenter.segment(mixture())
        assert str(caught.value).isprintable()
        assert "unix" not in str(caught.value)


_MEASURED = """
import resource, sys
from mixpriv.bundle import load_bundle
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import GrpcSegmenter
import grpc, numpy, tritonclient.grpc

contract = SegmenterContract.of(load_bundle(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for address in sys.argv[2:]:
    with GrpcSegmenter(address, contract, timeout_s=20) as segmenter:
        try:
            segmenter.segment(numpy.zeros((1, 1, 16, 16, 16), numpy.float16))
        except Exception as error:
            print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""

LARGE = [
    (Reply([BOMB], flag=1, headers=GZIP), "answers in a compressed form"),
    (Reply([bytes(2**26)]), "answered more than the"),
    (Reply([bytes(2**26)], length=2**31 - 1), "answered more than the"),
    (Reply([b"\x2a\x00" * 2**25]), "answered more than the"),
]
"""Compressed, long, endless, and of many small parts."""


def test_a_large_answer_costs_no_more_memory_than_a_right_one(contract: SegmenterContract, toy_folder: str) -> None:
    """Measured in a process of its own; a right one has 20 KB here."""
    before_trust, after = [(reply,) for reply, _ in LARGE], [(Reply([config(contract)]), reply) for reply, _ in LARGE]
    with ExitStack() as stack:
        addresses = [stack.enter_context(Http2Server(*replies)).address for replies in before_trust + after]
        command = [sys.executable, "-c", _MEASURED, toy_folder, *addresses]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    *said, grown = done.stdout.splitlines()
    assert [line.partition(address)[1] for line, address in zip(said, addresses, strict=True)] == addresses
    for line, (_, message) in zip(said, LARGE * 2, strict=True):
        assert message in line
    assert done.stderr == ""
    assert int(grown) < 50
