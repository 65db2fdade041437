"""Sending a mixture and receiving its segmentation, over KServe v2 gRPC."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import IncompatibleServerError, ServerLostError
from mixpriv.wire.address import Address
from mixpriv.wire.channel import open_channel
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.faults import fault
from mixpriv.wire.messages import decode_answer, decode_config, encode_request
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.token import Token

DEFAULT_TIMEOUT_S = 120.0
CHECK_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 0.5


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
    tls : certificates; None for none of our own and the well-known authorities
    insecure : allow plain text to another machine
    token : what the server asks for beside a certificate

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
    ) -> None:
        # Before gRPC is imported: its own complaints, beside the error that we raise, confuse a terminal.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        place = address if isinstance(address, Address) else Address.parse(address)
        self.address = place.text
        self._contract = contract
        self._timeout_s = timeout_s
        self._metadata = token and token.metadata
        self._messages = service_pb2
        self._channel = open_channel(place, tls, insecure=insecure, token=token)
        self._calls = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __enter__(self) -> GrpcSegmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; open calls are given up."""
        # gRPC waits for what it still tries to send; on a Unix socket a stopped server holds it for ever.
        closing = threading.Thread(target=self._channel.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_TIMEOUT_S)

    def check(self) -> Mapping[str, str]:
        """Ask the server which network it serves; no voxel is sent. Returns what its configuration says of it.

        Raises
        ------
        IncompatibleServerError
            it serves another network than the contract's.
        ServerUnavailableError
            it cannot be reached, refuses us or does not answer in time.
        """
        return self._check(time.monotonic() + self._timeout_s)

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Send one mixture. The server is checked before every request: a reconnection may meet another one.

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
        return self.ask(encode_request(self._contract, mixture), time.monotonic() + self._timeout_s)

    def ask(self, request: Any, deadline: float) -> NDArray[np.uint8]:
        """Check the server, send it a request made by `encode_request`, and check the answer; see `segment`."""
        self._check(deadline)
        answer = self._call(self._calls.ModelInfer, request, deadline)
        return decode_answer(self._contract, request, answer, self.address)

    def _check(self, deadline: float) -> Mapping[str, str]:
        # Without a version, so that a server of another version says which network it has.
        request = self._messages.ModelConfigRequest(name=self._contract.model_name)
        answer = self._call(self._calls.ModelConfig, request, min(deadline, time.monotonic() + CHECK_TIMEOUT_S))
        parameters, tensors = decode_config(answer.config)
        difference = self._contract.difference(parameters, tensors)
        if difference:
            raise IncompatibleServerError(f"server {self.address} is incompatible: {difference}")
        return parameters

    def _call(self, method: Any, request: Any, deadline: float) -> Any:
        """One call that ends at the deadline, even if the server is stopped while gRPC hands it the request."""
        import grpc

        call = method.future(request, timeout=max(0.0, deadline - time.monotonic()), metadata=self._metadata)
        try:
            return call.result(timeout=max(0.0, deadline - time.monotonic()))
        except grpc.RpcError as error:
            raise fault(self.address, error.code().name, error.details() or "") from None
        except (grpc.FutureTimeoutError, grpc.FutureCancelledError):
            raise ServerLostError(f"server {self.address} gave no answer in time") from None
        finally:
            call.cancel()
