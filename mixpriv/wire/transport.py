"""Sending a mixture and receiving its segmentation, over KServe v2 gRPC."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import IncompatibleServerError, MixprivError, ServerBusyError, ServerLostError
from mixpriv.wire.address import Address
from mixpriv.wire.channel import ChannelSettings
from mixpriv.wire.connection import Connection
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.delivery import Delivery, now
from mixpriv.wire.messages import (
    CONFIG_BYTES,
    answer_bytes,
    decode_answer,
    decode_config,
    encode_request,
)
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.token import Token

DEFAULT_TIMEOUT_S = 120.0
CHECK_TIMEOUT_S = 10.0


class Segmenter(Protocol):
    """What turns mixtures into segmentation mixtures: a server, or the network in this process."""

    @property
    def leaves_machine(self) -> bool:
        """Whether what it is given may leave this machine.

        Only a network in this process and a server that this process started keep it: behind a loopback address or a
        socket there may be a tunnel.
        """

    @property
    def address(self) -> str:
        """Where that goes, for people and for the ledger."""

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """To which servers the mixture of the last `segment` went, also where that failed; nothing for none."""

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Mixture (N, M, D, H, W) to probabilities x 255 without background (N, C-1, D, H, W)."""


class GrpcSegmenter:
    """A segmenter behind one server, asked once, as a context manager.

    `mixpriv.wire.servers` knows several and asks again.

    Parameters
    ----------
    address : ``HOST:PORT`` or ``unix:/path``
    contract : the network that the server must serve
    timeout_s : the most that `segment` takes, whatever the server does
    tls : certificates; None for none of our own, and the authorities that this system trusts
    insecure : allow plain text to another machine
    token : what the server asks for beside a certificate
    admit : is shown every connection before it is used, and raises what is against it

    Raises
    ------
    InputError
        the address or a certificate file is unusable.
    """

    leaves_machine = True

    def __init__(
        self,
        address: str | Address,
        contract: SegmenterContract,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsOptions | None = None,
        insecure: bool = False,
        token: Token | None = None,
        admit: Callable[[Connection], None] = lambda connection: None,
    ) -> None:
        # Before gRPC is imported: its own complaints, beside the error that we raise, confuse a terminal.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")

        place = address if isinstance(address, Address) else Address.parse(address)
        self.address = place.text
        self.deliveries: list[Delivery] = []
        self._shown = place.shown
        self._contract = contract
        self._timeout_s = timeout_s
        self._token, self._admit = token, admit
        self._settings = ChannelSettings.of(place, tls, insecure=insecure, token=token)
        self._connection: Connection | None = None
        self._closed = False
        self._changing, self._connecting = threading.Lock(), threading.Lock()

    def __enter__(self) -> GrpcSegmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; open calls are given up, and nothing is sent any more."""
        with self._changing:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def check(self) -> Mapping[str, str]:
        """Ask the server which network it serves; no voxel is sent. Returns what its configuration says of it.

        Raises
        ------
        IncompatibleServerError
            it serves another network than the contract's.
        ServerUnavailableError
            it cannot be reached, refuses us or does not answer in time.
        """
        _, said = self.ready(time.monotonic() + self._timeout_s)
        return said

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Send one mixture, over a connection on which the server has just shown that it has the right network.

        Parameters
        ----------
        mixture : (N, M, D, H, W) float16, C-contiguous, spatial sizes multiples of the contract's

        Returns
        -------
        (N, C-1, D, H, W) uint8, read-only

        Raises
        ------
        InputError
            the mixture is not as above.
        IncompatibleServerError
            the server serves another network, or its answer is no segmentation mixture.
        ServerUnavailableError
            it cannot be reached, is busy, refuses us, breaks off or does not answer in time.
        """
        self.deliveries = []
        request, deadline = encode_request(self._contract, mixture), time.monotonic() + self._timeout_s
        connection, _ = self.ready(deadline)
        return self.send(connection, request, deadline, self.deliveries)

    def ready(self, deadline: float) -> tuple[Connection, Mapping[str, str]]:
        """A connection on which the server has just shown the right network, and what it said of it; see `check`."""
        deadline = min(deadline, time.monotonic() + CHECK_TIMEOUT_S)
        connection, is_new = self._connected(deadline)
        if not is_new:
            # Servers end connections that were idle for long: that is no reason to give one up.
            with contextlib.suppress(ServerLostError):
                return connection, self._check(connection, deadline)
            connection, _ = self._connected(deadline)
        return connection, self._check(connection, deadline)

    def send(
        self, connection: Connection, request: Any, deadline: float, deliveries: list[Delivery]
    ) -> NDArray[np.uint8]:
        """Send what `encode_request` made over the connection that `ready` gave, and over no other; check the answer.

        It is noted in `deliveries` before the first byte leaves.
        """
        expected = answer_bytes(self._contract, request)
        message = request.SerializeToString()
        delivery = Delivery(self._shown, connection.certificate, now())
        deliveries.append(delivery)
        answer = self._call(connection, "ModelInfer", message, expected, deadline)
        probabilities = decode_answer(self._contract, request, answer, self.address)
        delivery.answered = True
        return probabilities

    def _check(self, connection: Connection, deadline: float) -> Mapping[str, str]:
        from tritonclient.grpc import service_pb2

        # Without a version, so that a server of another version says which network it has.
        request = service_pb2.ModelConfigRequest(name=self._contract.model_name).SerializeToString()
        answer = self._call(connection, "ModelConfig", request, CONFIG_BYTES, deadline)
        parameters, tensors = decode_config(answer, self.address)
        difference = self._contract.difference(parameters, tensors)
        if difference:
            raise IncompatibleServerError(f"server {self.address} is incompatible: {difference}")
        return parameters

    def _call(self, connection: Connection, method: str, request: bytes, expected: int, deadline: float) -> bytes:
        try:
            return connection.call(method, request, answer_bytes=expected, deadline=deadline)
        except ServerBusyError:
            raise
        except MixprivError:
            # What is still on its way must not count as what is sent for the next call.
            self._leave(connection)
            raise

    def _connected(self, deadline: float) -> tuple[Connection, bool]:
        """The connection, opened if there is none, and whether it was."""
        with self._connecting:
            with self._changing:
                old = self._connection
            if old is not None:
                if old.is_open:
                    return old, False
                self._leave(old)
            connection = Connection(self._settings, self._token, deadline)
            try:
                self._admit(connection)
            except BaseException:
                connection.close()
                raise
            with self._changing:
                if not self._closed:
                    self._connection = connection
                    return connection, True
        connection.close()
        raise ServerLostError(f"server {self.address}: the connection was closed")

    def _leave(self, connection: Connection) -> None:
        """Use a connection for no further calls."""
        with self._changing:
            if self._connection is connection:
                self._connection = None
        connection.retire()
