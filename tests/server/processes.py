"""Looking at processes that a test has started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def model_process(server: int) -> int:
    """Process id of the stub of a tritonserver."""
    (found,) = (pid for pid in children(server) if b"stub" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0])
    return found


def kill_all(pid: int) -> None:
    """Kill a process and all that come from it, in whatever group or session."""
    descendants = children(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for descendant in descendants:
        kill_all(descendant)


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def session_members(leader: int) -> list[int]:
    """Processes of the session that `leader` began, without those that are dead but not yet waited for."""
    members = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # state, parent, group, session follow the name, which may hold anything
            state, _, _, session = status.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state not in "ZX":
            members.append(int(status.parent.name))
    return members


def soon(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()
