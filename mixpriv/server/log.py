"""What a server's log says about why it ended."""

from __future__ import annotations

import re
from pathlib import Path

from mixpriv.wire.contract import printable

_REASONS = (
    r"failed to load '[^']+' version \d+: (?:Internal: )?(?:TritonModelException: )?(.+)",
    r"Poll failed for model directory '[^']+': (.+)",
    r"failed to start GRPC service: (.+)",
    r"error while loading shared libraries: (.+)",
    r"(object '[^']+' from LD_PRELOAD cannot be preloaded .+): ignored",
    r"unrecognized option (.+)",
)
"""The first that is found decides; what stands around them (CUDA, summaries, tracebacks) explains nothing."""


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
