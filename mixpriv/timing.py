"""Wall-clock seconds per stage of a run, and a word to whoever shows progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STAGES = ("load", "extract", "conform", "check", "protect", "ledger", "server", "reveal", "restore", "report", "save")
"""In the order of the data flow; "protect" and "server" are repeated for every request.

The first request is drawn and mixed beside "extract" and "conform", further ones beside "server": "protect" is what had
to be waited for beyond them.
"""


class Timings:
    """Stopwatch: ``with timings("mix"): ...`` adds to ``timings.seconds["mix"]``.

    Examples
    --------
    >>> timings = Timings()
    >>> with timings("mix"):
    ...     pass
    >>> list(timings.seconds)
    ['mix']
    """

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
