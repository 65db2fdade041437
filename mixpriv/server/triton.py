"""Starting, watching and stopping a tritonserver of our own."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from mixpriv.bundle import Bundle
from mixpriv.errors import MixprivError, ServerUnavailableError
from mixpriv.memory import SERVER_MIB, lack_of_memory, memory_limit
from mixpriv.server.access import Access
from mixpriv.server.processes import children, ending, is_alive, killed_by, program, reason_in
from mixpriv.server.repository import write_repository
from mixpriv.server.surroundings import GUARD, OPEN, environment, free_port, link_parts, standard_input
from mixpriv.server.wheel import find_guard, find_wheel
from mixpriv.server.workspace import Workspace, require_shared_memory
from mixpriv.threads import available_threads
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.token import Token
from mixpriv.wire.transport import GrpcSegmenter

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
_LAUNCH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("_launch.py")))
_MODEL_PROGRAM = "triton_python_backend_stub"
_LONGEST_LOG = 2**22
_LOOK_EVERY_S = 0.005
_RARELY = 100
"""Its children are asked for at every so many looks only: that reads a file for each of its threads."""

_LAST_WORDS_S = 2.0
"""After its model process has died tritonserver may take so long to say why."""

_SOCKET_PORT = 1
"""Triton appends a port to a socket's path, too."""


class TritonServer:
    """A tritonserver that serves one bundle, as a context manager: ready on entry, gone after exit.

    It dies with this process, also when that is killed, whichever thread starts it. Its model process sees what is
    installed in this environment, and neither PYTHONPATH nor the user's own packages.

    Parameters
    ----------
    bundle : whose segmenter is served
    host, port : TCP to listen on; host None for a Unix socket in a folder that only this user can enter
    access : to whom it answers; None for everybody who can connect
    metrics : address and port where Prometheus may read metrics, in plain text; None for nowhere
    threads : the most that inference uses; None for what this process may use
    stop_timeout_s : how long requests in flight may take at the end; 0 to kill at once

    Attributes
    ----------
    bundle, contract, access : what it serves, and to whom
    admin : what nobody is told but we ourselves, for the statistics; another one at each start
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        host: str | None = None,
        port: int = _SOCKET_PORT,
        access: Access | None = None,
        metrics: tuple[str, int] | None = None,
        threads: int | None = None,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self.bundle = bundle
        self.contract = SegmenterContract.of(bundle)
        self.access = access or Access()
        self._host, self._port = host, port
        self.admin = Token(secrets.token_hex())
        self._metrics = metrics
        self._threads = threads or available_threads()
        self._stop_timeout_s = stop_timeout_s
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> TritonServer:
        try:
            self._start()
            self._wait_until_ready(time.monotonic() + START_TIMEOUT_S)
        except BaseException as error:
            self._cleanup.close()
            if isinstance(error, OSError) and not isinstance(error, MixprivError):  # a disk or a table is full
                raise ServerUnavailableError(f"the server cannot be started: {error.strerror}") from None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    @property
    def address(self) -> str:
        """What a client connects to: ``HOST:PORT`` or ``unix:/path``."""
        return f"{self._listen}:{self._port}"

    @property
    def title(self) -> str:
        """What it serves: the bundle's name and version."""
        return f"{self.bundle.name} {self.bundle.version}"

    def lost(self) -> str | None:
        """Say how the server came to its end; None while it and its model process live."""
        if self._process.poll() is not None:
            return f"tritonserver ended by itself: {self._reason()}"
        # Without its model process Triton goes on, says that it is well, and fails every request.
        gone = [pid for pid in self._models if not is_alive(pid)]
        return f"the model process ended by itself{ending(gone[0])}" if gone else None

    def abandon(self) -> None:
        """Wait for no request at the end: it answers none any more."""
        self._stop_timeout_s = 0

    def cut_log(self) -> None:
        """Empty the log of a server that has had much to complain about."""
        if self._log.stat().st_size > _LONGEST_LOG:
            os.truncate(self._log, 0)

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._process.pid

    @property
    def own_address(self) -> str:
        """Where we ourselves reach it, also when it listens on all addresses."""
        if self._host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            return f"{'127.0.0.1' if self._host == '0.0.0.0' else '[::1]'}:{self._port}"  # noqa: S104
        return f"{self._listen}:{self._port}"

    def _start(self) -> None:
        wheel, guard = find_wheel(), find_guard()
        lack = lack_of_memory(SERVER_MIB)
        if lack:
            raise ServerUnavailableError(f"the server {lack}")
        if self.access.tls is not None:
            self.access.tls.check()
        require_shared_memory(2 * self._request_bytes())
        self._workspace = self._cleanup.enter_context(Workspace())
        self._folder = self._workspace.folder
        if self._host is None:
            self._listen = f"unix:{self._folder / 's'}"
        else:
            self._listen = f"[{self._host}]" if ":" in self._host else self._host
            self._port = free_port(self._host, self._port)
        if self._metrics is not None:
            free_port(*self._metrics)
        write_repository(self.bundle, self._folder / "models", link=True)
        link_parts(wheel, guard, self._folder)
        self._log = self._folder / "server.log"
        self._launch([*_LAUNCH, str(os.getpid()), str(self._folder / GUARD), str(wheel.server)])
        self._cleanup.callback(self._stop)

    def _launch(self, command: list[str]) -> None:
        """Start the process; its secrets come by its standard input, and are in no list of arguments."""
        restrictions = self.access.restrictions(self.admin)
        restricted = [f"--grpc-restricted-protocol={OPEN}"] * len(restrictions)
        stdin = standard_input(restrictions)
        # The kernel counts the death of the thread that starts it as the parent's: this one lives as long as it does.
        starter = self._cleanup.enter_context(ThreadPoolExecutor(1))
        try:
            with self._log.open("ab") as log:  # appending, so that it can be cut
                self._process = starter.submit(
                    subprocess.Popen,
                    [*command, *self._options(), *restricted],
                    env=environment(self._folder, self._threads),
                    cwd=self._folder,
                    stdin=stdin,
                    stdout=log,
                    stderr=log,
                    # A Ctrl-C at the terminal is ours to handle, so that requests in flight can finish.
                    start_new_session=True,
                ).result()
        finally:
            os.close(stdin)

    def _options(self) -> list[str]:
        """See Triton's ``--help``; what is not needed is off."""
        python = {
            "shm-region-prefix-name": self._workspace.regions,
            "shm-growth-byte-size": self._request_bytes(),
            "stub-timeout-seconds": round(START_TIMEOUT_S),
        }
        return [
            f"--model-repository={self._folder / 'models'}",
            f"--backend-directory={self._folder / 'backends'}",
            *(f"--backend-config=python,{name}={value}" for name, value in python.items()),
            "--model-control-mode=none",
            "--disable-auto-complete-config",
            "--allow-http=false",
            *self._metrics_options(),
            f"--grpc-address={self._listen}",
            f"--grpc-port={self._port}",
            *self.access.options(),
            # Clients that wait for a long inference may ask now and then whether we live.
            "--grpc-http2-min-recv-ping-interval-without-data=5000",
            # Else the messages of the last eight requests stay in memory.
            "--grpc-infer-allocation-pool-size=1",
            "--pinned-memory-pool-byte-size=0",
            f"--exit-timeout-secs={math.ceil(self._stop_timeout_s)}",
            "--log-info=false",
        ]

    def _metrics_options(self) -> list[str]:
        if self._metrics is None:
            return ["--allow-metrics=false"]
        address, port = self._metrics
        return ["--allow-metrics=true", f"--metrics-address={address}", f"--metrics-port={port}"]

    def _wait_until_ready(self, deadline: float) -> None:
        """Triton listens once its models are loaded and warm."""
        try:
            self._wait_until_it_listens(deadline)
            self._settle()
        except ServerUnavailableError as error:
            limit = memory_limit()
            if limit is None:
                raise
            raise ServerUnavailableError(f"{error} (it may use {limit.mib} MiB of memory: {limit.name})") from None

    def _wait_until_it_listens(self, deadline: float) -> None:
        what, until = "was not ready in time", deadline
        looks = itertools.count()
        while not self._accepts():
            if self._process.poll() is not None:
                raise ServerUnavailableError(f"tritonserver did not start: {self._reason()}")
            gone = [] if next(looks) % _RARELY else [pid for pid in children(self.pid) if not is_alive(pid)]
            # Triton would wait for its answer as long as it may load. It says why, if it knows.
            if gone and until == deadline:
                what, until = (
                    f"lost its model process{ending(gone[0])}",
                    min(deadline, time.monotonic() + _LAST_WORDS_S),
                )
            if time.monotonic() > until:
                raise ServerUnavailableError(f"tritonserver {what}: {reason_in(self._log)}")
            time.sleep(_LOOK_EVERY_S)

    def _settle(self) -> None:
        """Once it listens: look at what it made, and ask what it serves."""
        self._workspace.check_private()
        self._models = [pid for pid in children(self.pid) if _MODEL_PROGRAM in program(pid)]
        side = self.access.client_side()
        if side is not None:
            with GrpcSegmenter(self.own_address, self.contract, **side) as segmenter:
                segmenter.check()

    def _reason(self) -> str:
        """Why the process ended: a signal of which it can have written nothing, or what it wrote."""
        if self._process.returncode < 0:
            return killed_by(-self._process.returncode)
        return reason_in(self._log)

    def _accepts(self) -> bool:
        try:
            if self._host is None:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(self.own_address.removeprefix("unix:"))
            else:
                host = Address.parse(self.own_address).host
                socket.create_connection((host, self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def _stop(self) -> None:
        """Ask it to end and, in any case, leave no process of its group behind: it, or a model process of its own."""
        if self._stop_timeout_s > 0:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_timeout_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _request_bytes(self) -> int:
        """Bytes of one mixture and its answer."""
        d, h, w = self.bundle.grid_shape
        return d * h * w * (2 * len(self.bundle.modalities) + len(self.bundle.classes) - 1)
