"""mixpriv in Python: one scan by `segment`, many by a `Client`."""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from mixpriv.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from mixpriv.bundle_fields import CHECKS_BEFORE
from mixpriv.bundle_files import require_segmenter, require_side
from mixpriv.errors import InputError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mixpriv.client.pipeline import Pipeline
    from mixpriv.client.segment import Prepared
    from mixpriv.client.segmentation import Attempt, Segmentation
    from mixpriv.imaging.inputs import Scan
    from mixpriv.protection.modes import Mode
    from mixpriv.timing import Timings
    from mixpriv.wire.spread import Spread
    from mixpriv.wire.tls import TlsOptions
    from mixpriv.wire.token import Token
    from mixpriv.wire.transport import Segmenter

EMBEDDED = "embedded"
"""In place of a server's address: start one of our own, on this machine, and stop it at the end."""

DEFAULT_TIMEOUT_S = 120.0


def segment(
    scan: Scan,
    bundle: str | os.PathLike[str] | Bundle = DEFAULT_BUNDLE,
    *,
    server: str | None = None,
    mode: Mode | str | None = None,
    tissues: bool = False,
    series: str | None = None,
    age: float | None = None,
) -> Segmentation:
    """Segment a scan. Without a server the network runs in this process, and nothing leaves this machine.

    Parameters
    ----------
    scan : a path, a nibabel image, or (voxels, affine). Voxels are (I, J, K), or (I, J, K, M) of M modalities; the
        affine (4, 4) leads from a voxel's index to millimetres (R, A, S). Prefer the path or the image: scaled
        voxels of ``get_fdata()`` differ in their last digit, which makes them another scan to the ledger
    bundle : a shipped name, a folder, or a loaded bundle
    server, mode, tissues : see `Client`
    series : number or UID of a series, if the scan is a folder of DICOM files and several may be T1-weighted
    age : of the person, years, with which the volumes are compared; None if unknown

    Raises
    ------
    mixpriv.MixprivError
        the scan cannot be segmented; the message says why in one line.

    Examples
    --------
    >>> import mixpriv, numpy as np
    >>> mixpriv.segment((np.zeros((32, 32, 32), np.float32), np.eye(4)))
    Traceback (most recent call last):
    ...
    mixpriv.errors.InputError: array: all voxels have the same value
    """
    with Client(bundle, server=server, mode=mode, tissues=tissues) as client:
        return client.segment(scan, series, age=age)


class Client:
    """Segments scan after scan with one loading of the networks and one server; a context manager.

    Its networks are loaded, and the server is reached, when the first scan needs them. It may be used in any thread;
    threads that share one wait for each other.

    Parameters
    ----------
    bundle : a shipped name, a folder, or a loaded bundle
    server : ``HOST:PORT``, several separated by commas, ``unix:/path``, or ``embedded`` for a server of our own; None
        runs the network in this process
    mode : what the server sees, an object such as `Shielded` or a name: ``local``, ``shielded``, ``mixup``, ``none``.
        None takes mode ``none`` in this process, and what the bundle recommends with a server
    device : ``auto``, ``cpu`` or ``cuda``: where voxels are worked on
    scans : about how many will come, which decides ``auto``
    timeout_s : longest wait for one answer, s
    tls : certificates for a server on another machine; None trusts those authorities that this system does
    insecure : allow plain text to another machine
    token : what the server asks for beside a certificate
    spread : the servers are of operators that are trusted apart: each gets one request of a scan, and none two
    allow_repeat : send what the ledger would refuse
    send_anyway : names of checks that may fail and the scan is sent to another machine nevertheless
    tissues : merge the structures that a bundle tells apart to a few tissues

    Attributes
    ----------
    bundle, server, mode, device, tissues : what was chosen
    start_s : how long loading the networks and reaching the server took, s; None before

    Raises
    ------
    mixpriv.MixprivError
        bundle, mode and server do not go together.

    Examples
    --------
    >>> with Client("brain-t1") as client:
    ...     print(client.mode.name, client.bundle.classes[1])
    none white matter
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle = DEFAULT_BUNDLE,
        *,
        server: str | None = None,
        mode: Mode | str | None = None,
        device: Literal["auto", "cpu", "cuda"] | str | None = None,
        scans: int = 1,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsOptions | None = None,
        insecure: bool = False,
        token: Token | None = None,
        spread: bool = False,
        allow_repeat: bool = False,
        send_anyway: Sequence[str] = (),
        tissues: bool = False,
    ) -> None:
        from mixpriv.imaging.device import choose_device
        from mixpriv.labels import Labelling
        from mixpriv.quality.check import require_names

        _check_connection(server, timeout_s, tls, token)
        self.bundle = _bundle(bundle)
        self.server = server
        self.mode = _mode(mode, self.bundle, server)
        self.mode.require(self.bundle)
        Labelling.of(self.bundle, tissues=tissues)  # refuses a bundle that has none
        self.tissues = tissues
        self.device = choose_device(device, scans)
        self.start_s: float | None = None
        self._how = {"timeout_s": timeout_s, "tls": tls, "insecure": insecure, "token": token}
        self._allow_repeat, self._spread = allow_repeat, spread
        self._send_anyway = require_names(send_anyway, CHECKS_BEFORE)
        self._stack = ExitStack()
        self._leave = weakref.finalize(self, self._stack.close)  # also if nobody closes it
        self._pipeline: Pipeline | None = None
        self._failure: Exception | None = None
        self._opening, self._segmenting = threading.Lock(), threading.Lock()
        if spread and server in (None, EMBEDDED):
            raise InputError("spread: expected the servers of several operators")
        if server is not None and not self.mode.count:
            raise InputError(f"mode {self.mode.name} sends nothing: expected no server, got {printable(server, 80)}")
        if server in (None, EMBEDDED) and self.mode.count:
            require_segmenter(self.bundle)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the server, and stop one of our own; nothing can be segmented any more. Again it does nothing."""
        with self._opening:
            self._pipeline, self._failure = None, InputError("client: closed; expected one that is open")
            self._leave()

    def segment(self, scan: Scan, series: str | None = None, *, age: float | None = None) -> Segmentation:
        """Segment a scan, see `segment`.

        Raises
        ------
        mixpriv.MixprivError
            it cannot be done; the message says why in one line.
        """
        from mixpriv.client import segment as steps
        from mixpriv.imaging.inputs import volume_of
        from mixpriv.quality.check import require_age

        require_age(age)
        with self._segmenting:
            pipeline = self.open()
            return steps.segment(volume_of(scan, self.bundle.modalities, series), pipeline, age=age)

    def prepare(self, scan: Scan, timings: Timings, series: str | None = None) -> Prepared:
        """Do what needs no server, see `mixpriv.client.segment.prepare`; may run beside `finish` of another scan."""
        from mixpriv.client import segment as steps
        from mixpriv.imaging.inputs import volume_of

        with timings("load"):
            volume = volume_of(scan, self.bundle.modalities, series)
        timings.on_start("start")
        return steps.prepare(volume, self.open(), timings)

    def finish(
        self,
        prepared: Prepared,
        timings: Timings,
        warn: Callable[[str], None] = lambda warning: None,
        keep: Callable[[Attempt], None] = lambda attempt: None,
        age: float | None = None,
    ) -> Segmentation:
        """Send what was prepared and make labels of the answer, see `mixpriv.client.segment.finish`."""
        from mixpriv.client import segment as steps

        return steps.finish(prepared, self.open(), timings, warn, keep, age)

    @property
    def is_open(self) -> bool:
        """Whether networks and server are there already."""
        return self._pipeline is not None

    @property
    def sent_to(self) -> str | None:
        """Where requests go; None where nothing leaves this machine, and before the first scan."""
        pipeline = self._pipeline
        return pipeline.server if pipeline is not None and pipeline.leaves_machine else None

    def open(self) -> Pipeline:
        """Load the networks and reach the server; a first failure stays, so that it does not cost each scan its time.

        Raises
        ------
        mixpriv.MixprivError
            a file is missing or damaged, or the server cannot be reached.
        """
        with self._opening:
            if self._failure is not None:
                raise self._failure.with_traceback(None)  # else each time would add to it
            if self._pipeline is None:
                begin = time.perf_counter()
                try:
                    self._pipeline = self._opened()
                except Exception as error:
                    self._failure = error
                    raise
                self.start_s = round(time.perf_counter() - begin, 4)
            return self._pipeline

    def _opened(self) -> Pipeline:
        from mixpriv.client.ledger import Ledger
        from mixpriv.client.pipeline import open_pipeline
        from mixpriv.key import ClientKey, load_or_create_key

        # what is neither drawn nor shown to a server needs no key and leaves no trace
        kept = self.mode.count > 0 and (self.mode.unmixes or self.server is not None)
        key = load_or_create_key() if kept else ClientKey(secrets.token_bytes(32))
        if kept:
            Ledger().check()
        return open_pipeline(
            self.bundle,
            self.mode,
            key,
            self._segmenter() if self.mode.count else None,
            device=self.device,
            noted=kept,
            allow_repeat=self._allow_repeat,
            send_anyway=self._send_anyway,
            tissues=self.tissues,
        )

    def _segmenter(self) -> Segmenter | Spread:
        if self.server is None:
            from mixpriv.engine.in_process import InProcessSegmenter

            return InProcessSegmenter(self.bundle.segmenter_path)
        if self.server == EMBEDDED:
            from mixpriv.server.embedded import EmbeddedSegmenter, embedded_server

            server = self._stack.enter_context(embedded_server(self.bundle))
            own = self._stack.enter_context(EmbeddedSegmenter(server, **self._how))  # type: ignore[arg-type]
            own.check()
            return own
        from mixpriv.wire.address import parse_servers
        from mixpriv.wire.contract import SegmenterContract
        from mixpriv.wire.servers import ServerPool
        from mixpriv.wire.spread import Spread

        addresses, contract = parse_servers(self.server), SegmenterContract.of(self.bundle)
        if self._spread:
            spread = Spread(addresses, self.mode.count, contract, **self._how)  # type: ignore[arg-type]
            self._stack.enter_context(spread).check()
            return spread
        pool = ServerPool(addresses, contract, **self._how)  # type: ignore[arg-type]
        self._stack.enter_context(pool).check()
        return pool


def _bundle(bundle: str | os.PathLike[str] | Bundle) -> Bundle:
    if not isinstance(bundle, str | os.PathLike | Bundle):
        raise InputError(f"bundle: expected a name, a folder or a Bundle, got {type(bundle).__name__}")
    found = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    require_side(found, "client")
    return found


def _mode(mode: Mode | str | None, bundle: Bundle, server: str | None) -> Mode:
    from mixpriv.protection.modes import named

    if mode is None:
        return named("none" if server is None else bundle.recommended_mode)
    if isinstance(mode, str):
        return named(mode)
    if isinstance(mode, type) or not all(hasattr(mode, name) for name in ("require", "requests", "reveal")):
        got = mode.__name__ if isinstance(mode, type) else type(mode).__name__
        raise InputError(f"mode: expected a name or an object such as Shielded(), got {got}")
    return mode


def _check_connection(server: object, timeout_s: object, tls: object, token: object) -> None:
    """Refuse values of another type here, where the message can name them."""
    from mixpriv.wire.tls import TlsOptions
    from mixpriv.wire.token import Token

    if not isinstance(server, str | None):
        raise InputError(f"server: expected HOST:PORT, unix:/path, embedded or None, got {type(server).__name__}")
    if not isinstance(timeout_s, int | float) or not 0 < timeout_s < threading.TIMEOUT_MAX:
        raise InputError(f"timeout_s: expected a number of seconds above 0, got {printable(repr(timeout_s), 40)}")
    for name, value, kind in (("tls", tls, TlsOptions), ("token", token, Token)):
        if value is not None and not isinstance(value, kind):
            raise InputError(f"{name}: expected mixpriv.{kind.__name__}, got {type(value).__name__}")
