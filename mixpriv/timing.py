"""Wall-clock seconds per stage of a run, and a word to whoever shows progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STAGES = (
    "load", "digest", "extract", "conform", "risk", "ledger",
    "reference", "mix", "server", "unmix",
    "restore", "report", "save",
)  # fmt: skip
"""In the order of the data flow; the second row is repeated for every reference.

The digest is made, and the first reference and the warp drawn, beside "extract" and "conform", the likeness for the
ledger beside "risk"; "digest" and "reference" are what had to be waited for beyond them.
"""


class Stages:
    """Stopwatch: ``with stages("mix"): ...`` adds to ``stages.seconds["mix"]``."""

    def __init__(self, on_start: Callable[[str], None] = lambda stage: None) -> None:
        self.seconds: dict[str, float] = {}
        self.on_start = on_start

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure what runs inside, also when it fails."""
        self.on_start(stage)
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin
