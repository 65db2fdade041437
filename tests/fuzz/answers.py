"""Answers of servers that are broken or hostile: messages, statuses, and the HTTP/2 beneath them."""

from __future__ import annotations

import functools
import gzip
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from mixpriv.errors import IncompatibleServerError, ServerUnavailableError
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import GrpcSegmenter
from tests.support.toybundle import write_toy_bundle
from tests.wire.fakeserver import FakeServer, response
from tests.wire.http2 import GOOD_HEADERS, GOOD_TRAILERS, Http2Server, Pairs, Reply, good_config

ANSWER = (1, 5, 16, 16, 16)
TIMEOUT_S = 0.3
_LONGEST_LINE = 1000
_NAMES = ("", "other", "\x1b[2J\x1b[31m", "a\nb\r\nc", "\u202eevil", "é" * 300, "segmentation_mixture ", "\0")
_NUMBERS = (0, 1, -1, 2, 5, 16, 255, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63))
_TEXTS = (b"", b"plain", b"%1b[31m%0a%0d", b"\xff\xfe\x80", b"%ff%fe%", b"x" * 5000, b"Exceeds maximum queue size",
          b"last error: \n", b"\xe2\x80\xae", b"Socket closed", b"unknown model")  # fmt: skip
_FIRST_BYTES = (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"SSH-2.0-x\r\n", bytes(64))
_BOMB = gzip.compress(bytes(2**24))


@dataclass(frozen=True)
class Script:
    """What a server says: before anything, to the check, and to a mixture."""

    first: bytes | None
    config: Reply
    answer: Reply


@functools.cache
def _good() -> tuple[SegmenterContract, bytes]:
    """The network's contract and the configuration that a right server tells."""
    with tempfile.TemporaryDirectory() as folder:
        contract = SegmenterContract.of(write_toy_bundle(Path(folder)))
    return contract, good_config(FakeServer(contract, lambda context: None))


def example(random: np.random.Generator) -> Script:
    """A server that is right but for one or two things that it says."""
    _, config = _good()
    if random.random() < 0.02:
        first = _pick(random, _FIRST_BYTES) + (random.bytes(100) if random.random() < 0.5 else b"")
        return Script(first, Reply(), Reply())
    right = Reply([config])
    if random.random() < 0.35:
        return Script(None, _reply(random, _damaged(random, config)), Reply())
    if random.random() < 0.1:
        return Script(None, _reply(random, _odd_config(random)), Reply())
    answer = _odd_answer(random)
    return Script(None, right, _reply(random, _damaged(random, answer) if random.random() < 0.5 else answer))


@contextmanager
def target() -> Iterator[Callable[[Script], None]]:
    """Ask such servers as a client does: an answer is right, or the error is one that says so in a line."""
    contract, _ = _good()
    mixture = np.zeros((1, 1, *ANSWER[2:]), np.float16)
    with Http2Server() as server:

        def feed(script: Script) -> None:
            server.first, server.replies = script.first, (script.config, script.answer)
            with GrpcSegmenter(server.address, contract, timeout_s=TIMEOUT_S) as segmenter:
                try:
                    answer = segmenter.segment(mixture)
                except (IncompatibleServerError, ServerUnavailableError) as error:
                    line = str(error)
                    assert line.isprintable(), repr(line)
                    assert len(line) < _LONGEST_LINE, line
                else:
                    assert (answer.shape, answer.dtype) == (ANSWER, np.uint8)
                    assert answer.sum(axis=1, dtype=int).max() <= 257

        yield feed


def _reply(random: np.random.Generator, message: bytes) -> Reply:
    """A reply that holds a message and is otherwise right, most often."""
    draw = random.random()
    if draw < 0.6:
        return Reply([message])
    if draw < 0.7:
        code = str(_pick(random, (*range(17), 17, 99, -1, 2**40, "", "x"))).encode()
        return Reply(trailers=((b"grpc-status", code), (b"grpc-message", _pick(random, _TEXTS))))
    if draw < 0.75:
        return Reply([message], trailers=_pairs(random, GOOD_TRAILERS), close=random.random() < 0.9)
    if draw < 0.8:
        return Reply([message], headers=_pairs(random, GOOD_HEADERS), close=random.random() < 0.9)
    if draw < 0.85:
        length = int(_pick(random, (0, 1, 2**16, 2**30, 2**31, 2**32 - 1)))
        return Reply([message], flag=int(random.integers(3)), length=length, close=True)
    if draw < 0.9:
        encoding: Pairs = ((b"grpc-encoding", _pick(random, (b"gzip", b"deflate", b"identity", b"zstd", b"\xff"))),)
        return Reply([_BOMB], flag=1, headers=GOOD_HEADERS + encoding)
    if draw < 0.98:
        return Reply([message], change=functools.partial(_damaged, random), close=True)
    return Reply([message] * int(random.integers(4)), trailers=None if random.random() < 0.2 else GOOD_TRAILERS)


def _pairs(random: np.random.Generator, good: Pairs) -> Pairs:
    """Headers of which one is left out, changed, or added."""
    pairs = list(good)
    draw = int(random.integers(3))
    if draw == 0:
        pairs.pop(int(random.integers(len(pairs))))
    elif draw == 1:
        at = int(random.integers(len(pairs)))
        pairs[at] = (pairs[at][0], _pick(random, (*_TEXTS, b"503", b"404", b"100", b"text/html")))
    else:
        name = _pick(random, (b"x", b"grpc-status", b"grpc-message", b"grpc-status-details-bin", b":status", b"\xff"))
        pairs.append((name, _pick(random, (*_TEXTS, b"y" * 60_000))))
    return tuple(pairs)


def _odd_config(random: np.random.Generator) -> bytes:
    """A configuration of right form, and of odd content."""
    message = service_pb2.ModelConfigResponse.FromString(_good()[1])
    draw, config = int(random.integers(5)), message.config
    if draw == 0:
        config.input[0].data_type = int(_pick(random, (0, 1, 13, 14, 99, -1, 2**31 - 1)))
    elif draw == 1:
        config.output[0].dims[int(random.integers(4))] = int(_pick(random, _NUMBERS))
    elif draw == 2:
        name = str(_pick(random, list(config.parameters)))
        config.parameters[name].string_value = str(_pick(random, _NAMES))
    elif draw == 3:
        config.output[0].name = str(_pick(random, _NAMES))
    else:
        for _ in range(int(_pick(random, (1, 100, 50_000)))):
            config.input.add()
    return bytes(message.SerializeToString())


def _odd_answer(random: np.random.Generator) -> bytes:
    """An answer of right form, of which one thing may be odd."""
    array = random.integers(0, 52, ANSWER).astype(np.uint8)
    message = response(array)
    draw, output = int(random.integers(9)), message.outputs[0]
    if draw == 0:
        output.name = str(_pick(random, _NAMES))
    elif draw == 1:
        output.datatype = str(_pick(random, (*_NAMES, "FP32", "UINT64", "BYTES")))
    elif draw == 2:
        output.shape[int(random.integers(5))] = int(_pick(random, _NUMBERS))
    elif draw == 3:
        del output.shape[int(random.integers(5)) :]
    elif draw == 4:
        message.raw_output_contents[0] = random.bytes(int(_pick(random, (0, 1, array.nbytes - 1, array.nbytes))))
    elif draw == 5:
        for _ in range(int(_pick(random, (1, 100, 20_000)))):
            message.outputs.add()
            message.raw_output_contents.append(b"")
    elif draw == 6:
        message.model_name = str(_pick(random, _NAMES))
    elif draw == 7:
        output.contents.fp32_contents.extend([float("nan")] * 3)
    return bytes(message.SerializeToString())


def _damaged(random: np.random.Generator, content: bytes) -> bytes:
    """Bytes of which some are changed, lost, repeated or new, most often near the begin, where the structure is."""
    damaged = bytearray(content)
    for _ in range(int(random.integers(1, 4))):
        at = int(random.integers(min(len(damaged), 400) + 1)) if random.random() < 0.9 else len(damaged) // 2
        count = int(random.integers(1, 9))
        draw = int(random.integers(5))
        if draw == 0:
            damaged[at : at + count] = random.bytes(count)
        elif draw == 1:
            del damaged[at : at + count]
        elif draw == 2:
            damaged[at:at] = damaged[at : at + 4 * count]
        elif draw == 3:
            damaged[at:at] = _pick(random, (b"\xff" * 10, b"\x80" * 12, bytes(9), b"\x0a\x00" * 1000, random.bytes(4)))
        else:
            del damaged[at + int(random.integers(2)) * 1000 :]
    return bytes(damaged)


def _pick(random: np.random.Generator, options: Any) -> Any:
    return options[int(random.integers(len(options)))]
