"""Sending a mixture and receiving its segmentation, over KServe v2 gRPC."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import IncompatibleServerError, InputError, ServerUnavailableError
from mixpriv.wire.address import Address, TlsOptions, open_channel
from mixpriv.wire.contract import SegmenterContract, TensorSpec
from mixpriv.wire.faults import fault

DEFAULT_TIMEOUT_S = 120.0
_CHECK_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 0.5


class Segmenter(Protocol):
    """What turns mixtures into segmentation mixtures: a server, or the network in this process."""

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Mixture (N, M, D, H, W) to probabilities x 255 without background (N, C-1, D, H, W)."""


class GrpcSegmenter:
    """A segmenter behind a server, as a context manager.

    Parameters
    ----------
    address : ``HOST:PORT`` or ``unix:/path``
    contract : the network that the server must serve
    timeout_s : the most that `segment` takes, whatever the server does
    tls : certificates; None for none of our own and the well-known authorities
    insecure : allow plain text to another machine

    Raises
    ------
    InputError
        the address or a certificate file is unusable.
    """

    def __init__(
        self,
        address: str,
        contract: SegmenterContract,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsOptions | None = None,
        insecure: bool = False,
    ) -> None:
        # Before gRPC is imported: its own complaints, beside the error that we raise, confuse a terminal.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self._address = Address.parse(address)
        self._contract = contract
        self._timeout_s = timeout_s
        self._messages = service_pb2
        self._channel = open_channel(self._address, tls, insecure=insecure)
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

    def check(self) -> None:
        """Ask the server which network it serves; no voxel is sent.

        Raises
        ------
        IncompatibleServerError
            it serves another network than the contract's.
        ServerUnavailableError
            it cannot be reached, refuses us or does not answer in time.
        """
        self._check(time.monotonic() + min(self._timeout_s, _CHECK_TIMEOUT_S))

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
        self._check_mixture(mixture)
        deadline = time.monotonic() + self._timeout_s
        self._check(deadline)
        answer = self._call(self._calls.ModelInfer, self._request(mixture), deadline)
        return self._read(answer, (mixture.shape[0], self._contract.segmentation_mixture.shape[0], *mixture.shape[2:]))

    def _check(self, deadline: float) -> None:
        from tritonclient.grpc import model_config_pb2

        # Without a version, so that a server of another version says which network it has.
        request = self._messages.ModelConfigRequest(name=self._contract.model_name)
        config = self._call(self._calls.ModelConfig, request, deadline).config
        parameters = {name: value.string_value for name, value in config.parameters.items()}
        tensors = tuple(
            TensorSpec(t.name, model_config_pb2.DataType.Name(t.data_type).removeprefix("TYPE_"), tuple(t.dims))
            for t in (*config.input, *config.output)
        )
        difference = self._contract.difference(parameters, tensors)
        if difference:
            raise IncompatibleServerError(f"server {self._address.text} is incompatible: {difference}")

    def _call(self, method: Any, request: Any, deadline: float) -> Any:
        """One call that ends at the deadline, even if the server is stopped while gRPC hands it the request."""
        import grpc

        call = method.future(request, timeout=max(0.0, deadline - time.monotonic()))
        try:
            return call.result(timeout=max(0.0, deadline - time.monotonic()))
        except grpc.RpcError as error:
            raise fault(self._address.text, error.code().name, error.details() or "") from None
        except (grpc.FutureTimeoutError, grpc.FutureCancelledError):
            raise ServerUnavailableError(f"server {self._address.text} gave no answer in time") from None
        finally:
            call.cancel()

    def _check_mixture(self, mixture: NDArray[np.float16]) -> None:
        channels, multiple = self._contract.mixture.shape[0], self._contract.multiple
        if mixture.dtype != np.float16 or not mixture.flags.c_contiguous:
            raise InputError(f"mixture: expected C-contiguous float16, got {mixture.dtype}")
        if mixture.ndim != 5 or mixture.shape[1] != channels or any(n == 0 or n % multiple for n in mixture.shape[2:]):
            raise InputError(
                f"mixture: expected shape (N, {channels}, D, H, W) with D, H, W multiples of {multiple}, "
                f"got {mixture.shape}"
            )

    def _request(self, mixture: NDArray[np.float16]) -> Any:
        spec = self._contract.mixture
        request = self._messages.ModelInferRequest(
            model_name=self._contract.model_name, model_version=str(self._contract.model_version)
        )
        request.inputs.add(name=spec.name, datatype=spec.dtype, shape=mixture.shape)
        request.outputs.add(name=self._contract.segmentation_mixture.name)
        request.raw_input_contents.append(mixture.tobytes())
        return request

    def _read(self, answer: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        spec = self._contract.segmentation_mixture
        got = [(output.name, output.datatype, tuple(output.shape)) for output in answer.outputs]
        sizes = [len(content) for content in answer.raw_output_contents]
        if got != [(spec.name, spec.dtype, shape)] or sizes != [int(np.prod(shape))]:
            raise IncompatibleServerError(
                f"server {self._address.text} answered without a {spec.name} of {spec.dtype} {shape}"
            )
        probabilities = np.frombuffer(answer.raw_output_contents[0], np.uint8).reshape(shape)
        # Each of the C-1 values may be rounded up by a half.
        if probabilities.sum(axis=1, dtype=np.uint16).max() > 255 + shape[1] / 2:
            raise IncompatibleServerError(f"server {self._address.text} answered probabilities that exceed 1 in sum")
        return probabilities
