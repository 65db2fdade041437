"""Processes that we started, by Linux's /proc and by what they logged: whether they live, and why they ended."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path

from mixpriv.wire.contract import printable

_STATE, _EXIT_CODE = 0, 49
"""Positions in /proc/PID/stat after the name."""

_REASONS = (
    r"failed to load '[^']+' version \d+: (?:Internal: )?(?:TritonModelException: )?(.+)",
    r"Poll failed for model directory '[^']+': (.+)",
    r"failed to start GRPC service: (.+)",
    r"error while loading shared libraries: (.+)",
    r"(object '[^']+' from LD_PRELOAD cannot be preloaded .+): ignored",
    r"unrecognized option (.+)",
)
"""The first that is found decides; what stands around them (CUDA, summaries, tracebacks) explains nothing."""


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


def reason_in(log: Path) -> str:
    """The one line of the log that says why the server ended: a known reason, else the last line."""
    text = log.read_text(encoding="utf-8", errors="replace").replace(r"\n", "\n")
    if re.search(r"Stub process '[^']+' is not healthy", text):
        return "its model process died, as it does when memory runs out"
    for pattern in _REASONS:
        found = re.search(pattern, text)
        if found:
            return printable(found[1].strip(' "'), 300)
    lines = text.split("\n")
    return printable(next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no reason"), 300)


def _status(pid: int) -> list[str]:
    # The name may hold anything, also spaces and brackets.
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
