"""What a terminal shows while a scan is worked on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

from mixpriv.cli.process import end_if_stopped
from mixpriv.errors import printable

Progress = Callable[[str], None]
_LONGEST_NAME = 60


@contextlib.contextmanager
def shown(name: str) -> Iterator[Progress]:
    """Progress on a terminal, nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda stage: end_if_stopped()
        return
    from rich.console import Console
    from rich.text import Text

    title = printable(name, _LONGEST_NAME)

    def line(text: str) -> Text:
        return Text(text, no_wrap=True, overflow="ellipsis")

    def tell(stage: str) -> None:
        end_if_stopped()
        status.update(line(f"{title}: {_DOING.get(stage, stage)}"))

    with Console(file=cast("IO[str]", _Patient(sys.stderr))).status(line(title)) as status:
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
