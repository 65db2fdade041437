"""Starting, watching and stopping a tritonserver of our own."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from mixpriv.bundle import Bundle
from mixpriv.errors import ServerUnavailableError
from mixpriv.server.access import Access
from mixpriv.server.log import reason_in
from mixpriv.server.processes import children, hide_arguments, is_alive, program
from mixpriv.server.repository import write_repository
from mixpriv.server.wheel import TritonWheel, find_wheel
from mixpriv.server.workspace import Workspace, require_shared_memory
from mixpriv.threads import available_threads
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.token import TOKEN_VARIABLE
from mixpriv.wire.transport import GrpcSegmenter

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
_LAUNCH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("_launch.py")))
_MODEL_PROGRAM = "triton_python_backend_stub"
_LONGEST_LOG = 2**22
_SOCKET_PORT = 1
"""Triton appends a port to a socket's path, too."""


class TritonServer:
    """A tritonserver that serves one bundle, as a context manager: ready on entry, gone after exit.

    It dies with this process, also when that is killed. Start it from the main thread: the kernel counts the death of
    the thread that started it as the parent's. Its model process sees what is installed in this environment, and
    neither PYTHONPATH nor the user's own packages.

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
    hidden : whether its secrets are gone from the list of processes
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
        self._metrics = metrics
        self.hidden = False
        self._threads = threads or available_threads()
        self._stop_timeout_s = stop_timeout_s
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> TritonServer:
        try:
            self._start()
            self._wait_until_ready(time.monotonic() + START_TIMEOUT_S)
        except BaseException:
            self._cleanup.close()
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
        return None if all(map(is_alive, self._models)) else "the model process ended by itself"

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
        return self.address

    def _start(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a server must be started from the main thread, with which it dies")
        wheel = find_wheel()
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
        _link_backend(wheel, self._folder)
        self._log = self._folder / "server.log"
        with self._log.open("ab") as log:  # appending, so that it can be cut
            self._process = subprocess.Popen(
                [*_LAUNCH, str(os.getpid()), str(wheel.server), *self._options()],
                env=self._environment(),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C at the terminal is ours to handle, so that requests in flight can finish.
                start_new_session=True,
            )
        self._cleanup.callback(self._stop)

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

    def _environment(self) -> dict[str, str]:
        """The stub finds this environment's packages by PATH, and this Python's library by LD_LIBRARY_PATH."""
        env = dict(os.environ, MIXPRIV_THREADS=str(self._threads))
        for name, first in (("PATH", Path(sys.executable).parent), ("LD_LIBRARY_PATH", self._folder / "lib")):
            env[name] = os.pathsep.join(filter(None, (str(first), env.get(name))))
        env.pop(TOKEN_VARIABLE, None)
        return env

    def _wait_until_ready(self, deadline: float) -> None:
        """Triton listens once its models are loaded and warm."""
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerUnavailableError(f"tritonserver did not start: {self._reason()}")
            if self._accepts():
                self._settle()
                return
            time.sleep(0.02)
        raise ServerUnavailableError(f"tritonserver was not ready in {START_TIMEOUT_S:.0f} s: {reason_in(self._log)}")

    def _settle(self) -> None:
        """Once it listens: take possession of what it made, hide its secrets, and ask what it serves."""
        self._workspace.settle()
        family = children(self.pid)
        self._models = [pid for pid in family if _MODEL_PROGRAM in program(pid)]
        with contextlib.suppress(OSError):
            for pid in (self.pid, *family):  # their watcher began as a copy of it
                hide_arguments(pid, self.access.secrets())
            self.hidden = True
        side = self.access.client_side()
        if side is not None:
            with GrpcSegmenter(self.own_address, self.contract, **side) as segmenter:
                segmenter.check()

    def _reason(self) -> str:
        """Why the process ended: a signal of which it can have written nothing, or what it wrote."""
        if self._process.returncode < 0:
            return f"killed by {signal.Signals(-self._process.returncode).name}"
        return reason_in(self._log)

    def _accepts(self) -> bool:
        try:
            if self._host is None:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(self.address.removeprefix("unix:"))
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


def _link_backend(wheel: TritonWheel, folder: Path) -> None:
    backend = folder / "backends" / "python"
    for parent in (backend, folder / "lib"):
        parent.mkdir(parents=True)
    for source in (*wheel.backend.glob("*.*"), wheel.stub):
        (backend / source.name).symlink_to(source)
    # Alone in its folder: the other libraries beside it are not for tritonserver.
    (folder / "lib" / wheel.libpython.name).symlink_to(wheel.libpython)


def free_port(host: str, port: int) -> int:
    """The port, or any free one for 0; Triton itself says little about a port that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ServerUnavailableError(f"cannot listen on {host}:{port}: {error.strerror}") from None
