"""Looking at processes that we started, as Linux tells of them in /proc."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

_STATE, _EXIT_CODE = 0, 49
"""Positions in /proc/PID/stat after the name."""


def children(pid: int) -> list[int]:
    """Processes that a process started, all its threads taken together."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def program(pid: int) -> str:
    """The program that a process runs, as it was started."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
    return ""


def is_alive(pid: int) -> bool:
    """Whether a process is there, and more than a zombie."""
    try:
        return _status(pid)[_STATE] not in "ZX"
    except OSError:
        return False


def ending(pid: int) -> str:
    """How a process that its parent has not asked about came to its end: ", killed by ..." or nothing."""
    with contextlib.suppress(OSError, ValueError):
        number = int(_status(pid)[_EXIT_CODE]) & 0x7F
        return f", {killed_by(number)}" if number else ""
    return ""


def killed_by(number: int) -> str:
    """What a signal's number, which ended a process, means to a person."""
    name = signal.Signals(number).name
    return f"killed by {name}" + (", as the kernel does when memory runs out" if number == signal.SIGKILL else "")


def _status(pid: int) -> list[str]:
    # The name may hold anything, also spaces and brackets.
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
