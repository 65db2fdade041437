"""What the server tells its operator: lines for people, or JSON lines; nothing of a request's content."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import Any

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
            print(line, flush=True)
        else:
            print(f"{PROGRAM}: {message}", file=sys.stderr if trouble else sys.stdout, flush=True)
