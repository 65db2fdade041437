"""What a tritonserver finds around it: links to its parts, environment, standard input, a free port."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from mixpriv.errors import ServerUnavailableError
from mixpriv.server.wheel import TritonWheel
from mixpriv.wire.token import TOKEN_VARIABLE

GUARD = "guard.so"
OPEN = "@"
"""An argument that ends in ``=@`` gets a line of the standard input there; without the library Triton refuses it."""


def link_parts(wheel: TritonWheel, guard: Path, folder: Path) -> None:
    """Links, which work on file systems whose own files cannot be run, and have paths that the loader takes."""
    (folder / GUARD).symlink_to(guard)
    backend = folder / "backends" / "python"
    for parent in (backend, folder / "lib"):
        parent.mkdir(parents=True)
    for source in (*wheel.backend.glob("*.*"), wheel.stub):
        (backend / source.name).symlink_to(source)
    # Alone in its folder: the other libraries beside it are not for tritonserver.
    (folder / "lib" / wheel.libpython.name).symlink_to(wheel.libpython)


def environment(folder: Path, threads: int) -> dict[str, str]:
    """The stub finds this environment's packages by PATH, and this Python's library by LD_LIBRARY_PATH.

    Raises
    ------
    ServerUnavailableError
        there is no bash, by which Triton starts it.
    """
    env = dict(os.environ, MIXPRIV_THREADS=str(threads))
    for name, first, last in (
        ("PATH", Path(sys.executable).parent, os.defpath),
        ("LD_LIBRARY_PATH", folder / "lib", ""),
    ):
        env[name] = os.pathsep.join(filter(None, (str(first), env.get(name), last)))
    env.pop(TOKEN_VARIABLE, None)
    if shutil.which("bash", path=env["PATH"]) is None:
        raise ServerUnavailableError("tritonserver needs bash, found none in PATH")
    return env


def standard_input(lines: Sequence[str]) -> int:
    """A descriptor from which a new process can read these lines, and then the end; they are nowhere else."""
    reading, writing = os.pipe()
    try:
        os.write(writing, "".join(f"{line}\n" for line in lines).encode("ascii"))
    finally:
        os.close(writing)
    return reading


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
