"""How many threads this process may use: what the machine, the scheduler, the container and the user allow."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from mixpriv.errors import InputError

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def available_threads() -> int:
    """Least of the CPUs that the scheduler allows, the container's CPU quota (rounded up) and MIXPRIV_THREADS.

    Returns
    -------
    int
        at least 1

    Raises
    ------
    InputError
        MIXPRIV_THREADS is set, but not to a whole number from 1.
    """
    limits = [_scheduler_limit()]
    quota = cpu_quota()
    if quota is not None:
        limits.append(max(1, math.ceil(quota)))
    wanted = os.environ.get("MIXPRIV_THREADS")
    if wanted:
        if not wanted.isdecimal() or len(wanted) > 9 or int(wanted) < 1:
            raise InputError(f"MIXPRIV_THREADS: expected a whole number from 1, got {wanted!r}")
        limits.append(int(wanted))
    return min(limits)


def _scheduler_limit() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> float | None:
    """CPUs that the control groups of this process allow (the least of its own and its ancestors'), None if no limit.

    Parameters
    ----------
    cgroups : where the control groups are mounted
    own : the kernel's list of the groups that this process is in, one ``id:controllers:path`` a line
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += (q for folder in _upwards(cgroups, path) if (q := _quota_v2(folder)) is not None)
        elif "cpu" in controllers.split(","):
            quotas += (q for folder in _upwards(cgroups / "cpu", path) if (q := _quota_v1(folder)) is not None)
    return min(quotas, default=None)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    folder = root / path.strip("/")  # inside a container the path may be the host's; the root is then the container's
    yield folder
    while folder != root:
        folder = folder.parent
        yield folder


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
