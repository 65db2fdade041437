"""Starting, watching and stopping a tritonserver of our own."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from mixpriv.bundle import Bundle
from mixpriv.errors import ServerUnavailableError
from mixpriv.server.log import reason_in
from mixpriv.server.repository import write_repository
from mixpriv.server.wheel import TritonWheel, find_wheel
from mixpriv.server.workspace import Workspace, require_shared_memory
from mixpriv.threads import available_threads
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import GrpcSegmenter

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
_LAUNCH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("_launch.py")))
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
    host, port : loopback TCP to listen on; host None for a Unix socket in a folder that only this user can enter
    threads : the most that inference uses; None for what this process may use
    stop_timeout_s : how long requests in flight may take at the end; 0 to kill at once
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        host: str | None = None,
        port: int = _SOCKET_PORT,
        threads: int | None = None,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self._bundle = bundle
        self._contract = SegmenterContract.of(bundle)
        self._host, self._port = host, port
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
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._process.pid

    def wait(self) -> NoReturn:
        """Wait until the server ends by itself, which it should not.

        Raises
        ------
        ServerUnavailableError
            it ended.
        """
        self._process.wait()
        raise ServerUnavailableError(f"tritonserver ended by itself: {reason_in(self._log)}")

    def _start(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a server must be started from the main thread, with which it dies")
        wheel = find_wheel()
        require_shared_memory(2 * self._request_bytes())
        self._workspace = self._cleanup.enter_context(Workspace())
        self._folder = self._workspace.folder
        if self._host is None:
            self._listen = f"unix:{self._folder / 's'}"
        else:
            self._listen = f"[{self._host}]" if ":" in self._host else self._host
            self._port = _free_port(self._host, self._port)
        write_repository(self._bundle, self._folder / "models", link=True)
        _link_backend(wheel, self._folder)
        self._log = self._folder / "server.log"
        with self._log.open("wb") as log:
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
            "--allow-metrics=false",
            f"--grpc-address={self._listen}",
            f"--grpc-port={self._port}",
            # A token that nobody is told.
            f"--grpc-restricted-protocol=shared-memory,model-repository,statistics,trace,logging:none={secrets.token_hex()}",
            # Clients that wait for a long inference may ask now and then whether we live.
            "--grpc-http2-min-recv-ping-interval-without-data=5000",
            # Else the messages of the last eight requests stay in memory.
            "--grpc-infer-allocation-pool-size=1",
            "--pinned-memory-pool-byte-size=0",
            f"--exit-timeout-secs={math.ceil(self._stop_timeout_s)}",
            "--log-info=false",
        ]

    def _environment(self) -> dict[str, str]:
        """The stub finds this environment's packages by PATH, and this Python's library by LD_LIBRARY_PATH."""
        env = dict(os.environ, MIXPRIV_THREADS=str(self._threads))
        for name, first in (("PATH", Path(sys.executable).parent), ("LD_LIBRARY_PATH", self._folder / "lib")):
            env[name] = os.pathsep.join(filter(None, (str(first), env.get(name))))
        return env

    def _wait_until_ready(self, deadline: float) -> None:
        """Triton listens once its models are loaded and warm."""
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerUnavailableError(f"tritonserver did not start: {reason_in(self._log)}")
            if self._accepts():
                self._workspace.settle()
                with GrpcSegmenter(self.address, self._contract) as segmenter:
                    segmenter.check()
                return
            time.sleep(0.02)
        raise ServerUnavailableError(f"tritonserver was not ready in {START_TIMEOUT_S:.0f} s: {reason_in(self._log)}")

    def _accepts(self) -> bool:
        try:
            if self._host is None:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(self.address.removeprefix("unix:"))
            else:
                socket.create_connection((self._host, self._port), timeout=1).close()
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
        d, h, w = self._bundle.grid_shape
        return d * h * w * (2 * len(self._bundle.modalities) + len(self._bundle.classes) - 1)


def _link_backend(wheel: TritonWheel, folder: Path) -> None:
    backend = folder / "backends" / "python"
    for parent in (backend, folder / "lib"):
        parent.mkdir(parents=True)
    for source in (*wheel.backend.glob("*.*"), wheel.stub):
        (backend / source.name).symlink_to(source)
    # Alone in its folder: the other libraries beside it are not for tritonserver.
    (folder / "lib" / wheel.libpython.name).symlink_to(wheel.libpython)


def _free_port(host: str, port: int) -> int:
    """The port, or any free one for 0; Triton itself says little about a port that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ServerUnavailableError(f"cannot listen on {host}:{port}: {error.strerror}") from None
