"""TLS to a server, by this process and not by gRPC, which does not tell whose certificate a connection has shown."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Any

from mixpriv.errors import InputError, ServerLostError, ServerUnavailableError, printable

_CHUNK = 2**18


class SecuredSocket:
    """A connected socket with TLS over it; one thread may send while another receives.

    Parameters
    ----------
    plain : connected; closed with this one, and where the handshake fails
    name : what the certificate must be for; the address's own name or a host's
    server : what messages call it
    deadline : of the handshake, as `time.monotonic` tells it

    Attributes
    ----------
    certificate : SHA-256 of the certificate that the server showed, in hexadecimal digits

    Raises
    ------
    InputError
        no certificate can be for this name.
    ServerUnavailableError
        the server refuses TLS, is not trusted, or breaks off.
    """

    def __init__(
        self, plain: socket.socket, context: ssl.SSLContext, *, name: str, server: str, deadline: float
    ) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # OpenSSL's objects are for one thread at a time, and no lock may be held while the network is waited for.
        self._using = threading.Lock()
        try:
            try:
                self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
            except ValueError:  # a part of the name is empty or too long
                raise InputError(
                    f"server {server}: no certificate can be for the name {printable(name, 80)!r}"
                ) from None
            self._shake_hands(server, deadline)
        except BaseException:
            plain.close()
            raise
        self.certificate = hashlib.sha256(self._tls.getpeercert(binary_form=True) or b"").hexdigest()

    def __enter__(self) -> SecuredSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._plain.close()

    def shutdown(self, how: int) -> None:
        self._plain.shutdown(how)

    def sendall(self, data: memoryview) -> None:
        with self._using:
            while data:
                data = data[self._tls.write(data) :]
            encrypted = self._outgoing.read()
        self._plain.sendall(encrypted)

    def recv_into(self, buffer: memoryview) -> int:
        """Receive something; 0 at the end."""
        while True:
            with self._using, contextlib.suppress(ssl.SSLWantReadError):
                try:
                    count: Any = self._tls.read(len(buffer), buffer)
                    return int(count)
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    return 0
            self._take(self._plain.recv(_CHUNK))

    def _take(self, data: bytes) -> None:
        with self._using:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _shake_hands(self, server: str, deadline: float) -> None:
        try:
            while not self._is_done():
                self._plain.settimeout(_left(deadline))
                self._plain.sendall(self._outgoing.read())
                self._take(self._plain.recv(_CHUNK))
            self._plain.sendall(self._outgoing.read())
        except ssl.SSLCertVerificationError as error:
            with contextlib.suppress(OSError):  # tells the server why
                self._plain.sendall(self._outgoing.read())
            raise _refused(server, error.verify_message) from None
        except (ssl.SSLEOFError, ConnectionError):
            raise ServerLostError(
                f"server {server} closed the connection: it broke off, or expects TLS or another certificate"
            ) from None
        except ssl.SSLError as error:
            raise _refused(server, (error.reason or "not TLS").lower().replace("_", " ")) from None
        except TimeoutError:
            raise ServerLostError(f"server {server} gave no answer in time") from None
        except OSError as error:  # the way to the server
            reason = printable(error.strerror or str(error))
            raise ServerLostError(f"server {server} cannot be reached: {reason}") from None
        if self._tls.selected_alpn_protocol() != "h2":
            raise _refused(server, "it does not speak HTTP/2")
        self._plain.settimeout(None)

    def _is_done(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


def _left(deadline: float) -> float:
    """Seconds until then; TimeoutError if none are: a server that drips shall not gain time by each byte."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _refused(server: str, why: str) -> ServerUnavailableError:
    return ServerUnavailableError(f"server {server} refuses TLS or is not trusted: {printable(why, 160)}")
