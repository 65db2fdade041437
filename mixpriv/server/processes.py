"""Looking at processes that we started, as Linux tells of them in /proc."""

from __future__ import annotations

import contextlib
from pathlib import Path

_STATE, _ARGUMENTS_BEGIN = 0, 45
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


def hide_arguments(pid: int, hidden: list[bytes]) -> None:
    """Overwrite secrets in a process's arguments, which every user of the machine can list.

    The program must have copied what it needs of them.

    Raises
    ------
    OSError
        the kernel does not let us.
    """
    start = int(_status(pid)[_ARGUMENTS_BEGIN])
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        for text in hidden:
            position = arguments.find(text)
            if position >= 0:
                memory.seek(start + position)
                memory.write(b"x" * len(text))


def _status(pid: int) -> list[str]:
    # The name may hold anything, also spaces and brackets.
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
