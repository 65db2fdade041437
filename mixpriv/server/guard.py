"""The library that hides what tritonserver makes and is told from other users of the machine (csrc/guard)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from mixpriv.errors import ServerUnavailableError

OPEN = "@"
"""An argument that ends in ``=@`` gets a line of the standard input there; without the library Triton refuses it."""


def find_guard() -> Path:
    """Find the library, which was built with this package.

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


def standard_input(lines: Sequence[str]) -> int:
    """A descriptor from which a new process can read these lines, and then the end; they are nowhere else."""
    reading, writing = os.pipe()
    try:
        os.write(writing, "".join(f"{line}\n" for line in lines).encode("ascii"))
    finally:
        os.close(writing)
    return reading
