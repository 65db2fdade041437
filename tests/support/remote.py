"""A segmenter as if it were somewhere else: the network runs in this process, but what it is shown counts as sent."""

from __future__ import annotations

from mixpriv.bundle import Bundle
from mixpriv.engine.in_process import InProcessSegmenter


class RemoteSegmenter(InProcessSegmenter):
    leaves_machine = True

    def __init__(self, bundle: Bundle, address: str = "host:1") -> None:
        super().__init__(bundle.segmenter_path)
        self.address = address
