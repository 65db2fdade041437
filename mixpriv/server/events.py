"""What the server tells its operator: lines for people, or JSON lines; nothing of a request's content."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timezone
from typing import Any, TextIO

PROGRAM = "mixpriv-server"


class EventLog:
    """Tells events; ``json_lines`` for one JSON object a line on the standard output."""

    def __init__(self, *, json_lines: bool = False) -> None:
        self.json_lines = json_lines

    def tell(self, event: str, message: str, *, trouble: bool = False, **facts: Any) -> None:
        """Tell an event.

        Parameters
        ----------
        event : one word for machines
        message : one line for people
        trouble : goes to the standard error stream, for people
        **facts : further fields for machines: counts, seconds, addresses
        """
        if self.json_lines:
            time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            level = "error" if trouble else "info"
            line = json.dumps({"time": time, "level": level, "event": event, "message": message, **facts})
            _say(line, sys.stdout)
        else:
            _say(f"{PROGRAM}: {message}", sys.stderr if trouble else sys.stdout)


def _say(line: str, stream: TextIO) -> None:
    """Print a line; where nobody reads any more, or the disk is full, those who are served still are."""
    try:
        print(line, file=stream, flush=True)
    except OSError:
        with open(os.devnull, "w", encoding="utf-8") as nothing:  # else Python tries again at its end, and complains
            os.dup2(nothing.fileno(), stream.fileno())
