"""What a terminal shows while a scan is worked on."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import IO, Any, cast

from mixpriv.cli.process import end_if_stopped
from mixpriv.errors import printable

Progress = Callable[[str], None]
_LONGEST_NAME = 60


class Pace:
    """How far a run over many scans has come, and when it will be at its end at this speed.

    Examples
    --------
    >>> pace = Pace(4)
    >>> pace.text
    'scan 1 of 4, 0:00:00'
    >>> pace.count(worked=True)
    >>> pace.text
    'scan 2 of 4, 0:00:00, 0:00:00 left'
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._worked, self._begin, self._idle_s, self._last = 0, time.monotonic(), 0.0, time.monotonic()

    def count(self, *, worked: bool) -> None:
        """One scan more is over; one that was not ``worked`` on says nothing of the speed."""
        now = time.monotonic()
        self.done += 1
        self._worked += worked
        self._idle_s += 0.0 if worked else now - self._last
        self._last = now

    @property
    def text(self) -> str:
        """The scan that is worked on, of how many, the time that went by, and the time that is left."""
        return f"scan {min(self.done + 1, self.total)} of {self.total}, {self._times}"

    @property
    def so_far(self) -> str:
        """How many scans are over, of how many, and the same times."""
        return f"{self.done} of {self.total}, {self._times}"

    @property
    def _times(self) -> str:
        now = time.monotonic()
        if not self._worked:
            return _clock(now - self._begin)
        left = (self._last - self._begin - self._idle_s) / self._worked * (self.total - self.done)
        return f"{_clock(now - self._begin)}, {_clock(left - (now - self._last))} left"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))


@contextlib.contextmanager
def shown(name: str, pace: Pace) -> Iterator[Progress]:
    """Progress on a terminal, nothing elsewhere; of several scans also the ``pace``."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda stage: end_if_stopped()
        return
    from rich.console import Console
    from rich.text import Text

    title = printable(name, _LONGEST_NAME)

    def line(text: str) -> Text:
        many = f"{pace.text}: " if pace.total > 1 else ""
        return Text(f"{many}{title}{text}", no_wrap=True, overflow="ellipsis")

    def tell(stage: str) -> None:
        end_if_stopped()
        status.update(line(f": {_DOING.get(stage, stage)}"))

    with Console(file=cast("IO[str]", _Patient(sys.stderr))).status(line("")) as status:
        yield tell


class _Patient:
    """A stream whose failure, as of a terminal that was closed, is not that of the work."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


_DOING = {
    "load": "reading",
    "start": "getting the networks and the server ready",
    "extract": "finding the brain",
    "conform": "bringing it to the networks' grid",
    "protect": "drawing a reference and mixing",
    "ledger": "looking into the ledger",
    "server": "waiting for the server",
    "reveal": "unmixing",
    "restore": "back to the scan's grid",
    "report": "writing the report",
    "save": "writing",
}
