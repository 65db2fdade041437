"""A tritonserver on a private socket with Envoy before it: what operators serve sites with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from mixpriv.atomic import private_folder
from mixpriv.bundle import Bundle
from mixpriv.server.envoy import Certificates, Envoy, find_envoy
from mixpriv.server.events import EventLog
from mixpriv.server.front import Front
from mixpriv.server.sites import Site
from mixpriv.server.triton import TritonServer
from mixpriv.wire.contract import SegmenterContract

_BESIDE_BYTES = 2**16
"""The most that a request has beside its volume."""


@dataclass(frozen=True)
class FrontOptions:
    """What an operator chooses.

    Attributes
    ----------
    host, port : where clients come; an address, not a name
    certificates : who the front is, whom it lets in
    sites : who may ask how much
    log : the file of the calls
    metrics : address and port where Prometheus may read, in plain text; None for nowhere
    """

    host: str
    port: int
    certificates: Certificates
    sites: list[Site]
    log: Path
    metrics: tuple[str, int] | None = None

    def front(self, contract: SegmenterContract, triton: str, folder: Path) -> Front:
        """The front of a network at a tritonserver, with its files in a folder."""
        volume = 2 * math.prod(contract.mixture.shape)
        return Front(
            host=self.host,
            port=self.port,
            triton=triton,
            folder=folder,
            sites=self.sites,
            models=[contract.model_name],
            request_bytes=volume + _BESIDE_BYTES,
            metrics=self.metrics,
        )


class FrontedServer(TritonServer):
    """A tritonserver that nobody but Envoy reaches, as a context manager; both are ready on entry, and gone after exit.

    Parameters
    ----------
    bundle, threads : as of `TritonServer`
    options : who is served, and where
    events : told of new certificates, and of the log's end
    """

    def __init__(self, bundle: Bundle, options: FrontOptions, events: EventLog, *, threads: int | None = None) -> None:
        super().__init__(bundle, threads=threads)
        self._front, self._events = options, events

    @property
    def address(self) -> str:
        """What a client connects to."""
        host = f"[{self._front.host}]" if ":" in self._front.host else self._front.host
        return f"{host}:{self._envoy.port}"

    def lost(self) -> str | None:
        """Say how the server, or Envoy, came to its end; None while both live."""
        return super().lost() or self._envoy.lost()

    def _start(self) -> None:
        find_envoy()
        self._front.certificates.check()
        super()._start()

    def _settle(self) -> None:
        """Open the front once what is behind it is well."""
        super()._settle()
        folder = private_folder(self._folder / "front")
        config = self._front.front(self.contract, self.own_address, folder)
        self._envoy = self._cleanup.enter_context(Envoy(config, self._front.certificates, self._front.log, self._tell))
        self._cleanup.callback(self._drain)

    def _drain(self) -> None:
        """Wait for the calls in flight; after them nobody asks Triton any more."""
        self._envoy.drain(self._stop_timeout_s)
        self.abandon()

    def _tell(self, name: str, message: str, trouble: bool) -> None:
        self._events.tell(name, message, trouble=trouble)
