"""The real tritonserver that the nvidia-pytriton wheel carries, what it needs of this Python, and its guard."""

from __future__ import annotations

import importlib.util
import platform
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mixpriv.errors import ServerUnavailableError

_ELSEWHERE = "use --server HOST:PORT to name a server"
_SYSTEM_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")


@dataclass(frozen=True)
class TritonWheel:
    """Files of an installation that can be started.

    Attributes
    ----------
    server : the tritonserver program
    backend : folder of the Python backend's library and helper module
    stub : the program that runs a Python model, built for this Python's version
    libpython : this Python's own shared library; another one of the same version lacks symbols of its modules
    """

    server: Path
    backend: Path
    stub: Path
    libpython: Path


def find_wheel() -> TritonWheel:
    """Find tritonserver without importing pytriton.

    Raises
    ------
    ServerUnavailableError
        not Linux on x86-64, or a part is missing; one line says which and what to do.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise ServerUnavailableError(
            f"the embedded server runs on Linux x86-64 only, this is {sys.platform} {platform.machine()}: {_ELSEWHERE}"
        )
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ServerUnavailableError(
            f"tritonserver is not installed: pip install 'mixpriv[server]' in this environment, or {_ELSEWHERE}"
        )
    numpy = metadata.version("numpy")
    if int(numpy.partition(".")[0]) >= 2:
        raise ServerUnavailableError(f"the embedded server needs numpy<2, found {numpy}: pip install 'numpy<2'")
    root = Path(spec.submodule_search_locations[0], "tritonserver")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    wheel = TritonWheel(root / "bin" / "tritonserver", root / "backends" / "python", stub, _libpython(version))
    if not stub.is_file():
        raise ServerUnavailableError(f"nvidia-pytriton has no stub for Python {version}: use 3.11, or {_ELSEWHERE}")
    if not wheel.server.is_file():
        raise ServerUnavailableError(f"nvidia-pytriton is incomplete: {wheel.server} is missing")
    return wheel


def find_guard() -> Path:
    """Find the library that hides what tritonserver makes and is told from other users (csrc/guard), built with us.

    Raises
    ------
    ServerUnavailableError
        it is missing: no server is started without it.
    """
    spec = importlib.util.find_spec("mixpriv.server._guard")
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ServerUnavailableError(
            "the library that hides a server's memory and secrets from other users is missing: install mixpriv again"
        )
    return Path(spec.origin)


def _libpython(version: str) -> Path:
    name = f"libpython{version}.so.1.0"
    own = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    folders = (own, own / multiarch, Path(sys.base_prefix, "lib"), _SYSTEM_LIBRARIES)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ServerUnavailableError(
        f"the embedded server needs {name}, not found in {own}: on Debian or Ubuntu apt-get install "
        f"libpython{version}, or {_ELSEWHERE}"
    )
