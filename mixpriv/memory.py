"""How much memory this process may use, asked before libraries spin or stand still for want of it."""

from __future__ import annotations

import sys
from typing import NamedTuple

CLIENT_MIB, SERVER_MIB = 1200, 1800
"""Addresses that a run takes on two processors, more on more; with fewer it fails in odd ways. Most are never used."""

_DATA_SHARE = 3
"""Of addresses, about a third are a process's own data."""


class Limit(NamedTuple):
    """A limit of this process in MiB, the shell's name for it, and the addresses that it is enough for."""

    mib: int
    name: str
    addresses_mib: int


def memory_limit() -> Limit | None:
    """The limit that is met first; None if there is none."""
    if sys.platform == "win32":
        return None
    import resource

    kinds = (("ulimit -v", resource.RLIMIT_AS, 1), ("ulimit -d", resource.RLIMIT_DATA, _DATA_SHARE))
    soft = [(name, resource.getrlimit(kind)[0] >> 20, share) for name, kind, share in kinds]
    limits = [Limit(mib, name, mib * share) for name, mib, share in soft if mib >= 0]
    return min(limits, key=lambda limit: limit.addresses_mib, default=None)


def lack_of_memory(needed_mib: int) -> str:
    """Say that a limit is too low for so many addresses, as the end of a sentence; empty if none is."""
    limit = memory_limit()
    if limit is None or limit.addresses_mib >= needed_mib:
        return ""
    needed = needed_mib * limit.mib // max(limit.addresses_mib, 1) or needed_mib
    return f"needs {needed} MiB of memory, but may use {limit.mib} ({limit.name})"


_ARENAS = -8  # M_ARENA_MAX of malloc.h


def share_one_heap() -> None:
    """Let all threads take memory from one heap; before they do.

    By itself the C library (glibc) gives each thread its own, and what is freed in one is of no use to the others: over
    many scans such gaps add up. Nothing happens where the C library cannot do it.
    """
    if sys.platform != "linux":
        return
    import ctypes

    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_ARENAS, 1)
