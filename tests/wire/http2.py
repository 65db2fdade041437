"""A server that speaks just enough HTTP/2 to say what no gRPC library would."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.wire.fakeserver import FakeServer, response

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
Pairs = tuple[tuple[bytes, bytes], ...]

GOOD_HEADERS: Pairs = ((b":status", b"200"), (b"content-type", b"application/grpc"))
GOOD_TRAILERS: Pairs = ((b"grpc-status", b"0"),)


@dataclass(frozen=True)
class Reply:
    """What the server says to one request.

    Attributes
    ----------
    messages : gRPC messages; their lengths and whether they are compressed are told as they should be, or as follows
    flag, length : what is told of the messages instead
    trailers : None for a stream that is never ended
    change : what becomes of the bytes before they are sent
    close : end the connection afterwards
    """

    messages: Sequence[bytes] = ()
    flag: int = 0
    length: int | None = None
    headers: Pairs = GOOD_HEADERS
    trailers: Pairs | None = GOOD_TRAILERS
    change: Callable[[bytes], bytes] = field(default=lambda sent: sent)
    close: bool = False

    def frames(self, stream: int) -> bytes:
        sent = bytearray()
        if self.headers:
            sent += frame(HEADERS, END_HEADERS, stream, header_block(self.headers))
        for message in self.messages:
            length = len(message) if self.length is None else self.length
            body = struct.pack(">BI", self.flag, length) + message
            for start in range(0, len(body), 2**14):
                sent += frame(DATA, 0, stream, body[start : start + 2**14])
        if self.trailers is not None:
            sent += frame(HEADERS, END_HEADERS | END_STREAM, stream, header_block(self.trailers))
        return self.change(bytes(sent))


def failure(code: int, details: bytes) -> Reply:
    """A gRPC status; details as they stand on the wire, percent-encoded or not."""
    return Reply(trailers=((b"grpc-status", str(code).encode()), (b"grpc-message", details)))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(pairs: Pairs) -> bytes:
    """HPACK: literal, neither indexed nor compressed."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in pairs)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes([size]) + text
    size, coded = size - 127, bytearray([127])
    while size >= 128:
        coded.append(size % 128 + 128)
        size //= 128
    return bytes([*coded, size]) + text


class Http2Server:
    """Listens on loopback; replies to the requests of each connection in turn, the last reply again and again.

    Attributes
    ----------
    replies : what to say; may be changed at any time
    first : bytes that are sent before anything else, instead of a greeting
    """

    def __init__(self, *replies: Reply) -> None:
        self.replies: tuple[Reply, ...] = replies
        self.first: bytes | None = None
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Http2Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more; connections that are open stay so until the other side ends them."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, contextlib.suppress(OSError, EOFError), client.makefile("rb") as stream:
            if self.first is not None:
                client.sendall(self.first)
                return
            client.sendall(frame(SETTINGS, 0, 0, b""))
            _exactly(stream, len(PREFACE))
            self._answer(client, stream)

    def _answer(self, client: socket.socket, stream: Any) -> None:
        answered, body = 0, b""
        while True:
            kind, flags, number, payload = _read_frame(stream)
            if kind == SETTINGS and not flags & ACK:
                client.sendall(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                client.sendall(frame(PING, ACK, 0, payload))
            elif kind == DATA:
                body += payload
                if payload:
                    for stream_number in (0, number):  # the connection's window, and the request's
                        client.sendall(frame(WINDOW_UPDATE, 0, stream_number, struct.pack(">I", len(payload))))
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                self.requests.append(body)
                reply = self.replies[min(answered, len(self.replies) - 1)]
                answered, body = answered + 1, b""
                client.sendall(reply.frames(number))
                if reply.close:
                    return


def _read_frame(stream: Any) -> tuple[int, int, int, bytes]:
    head = _exactly(stream, 9)
    kind, flags, number = struct.unpack(">BBI", head[3:])
    return kind, flags, number, _exactly(stream, int.from_bytes(head[:3], "big"))


def _exactly(stream: Any, count: int) -> bytes:
    data: bytes = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def good_config(fake: FakeServer) -> bytes:
    """The configuration that a right server tells."""
    from tritonclient.grpc import service_pb2

    message: bytes = fake.config(service_pb2.ModelConfigRequest(name=fake.contract.model_name)).SerializeToString()
    return message


def good_answer(array: Any) -> bytes:
    message: bytes = response(array).SerializeToString()
    return message
