"""An operator's server as a process of its own: it serves a bundle's network and writes down each mixture that came.

``python -m tests.cli.recording_server BUNDLE HOST RECORD [CERTIFICATE KEY]`` prints its address when it is ready.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from mixpriv.bundle import load_bundle
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.wire.contract import SegmenterContract
from tests.support.certificates import Party
from tests.wire.fakeserver import FakeServer, response
from tests.wire.serving import listening


class Recorder(FakeServer):
    """Answers with the bundle's network, after the digest of the mixture is on a line of `record`."""

    def __init__(self, folder: str, record: Path) -> None:
        bundle = load_bundle(folder)
        super().__init__(SegmenterContract.of(bundle), lambda context: None)
        self._network, self._record, self._lock = InProcessSegmenter(bundle.segmenter_path), record, threading.Lock()

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by KServe
        contents = request.raw_input_contents[0]
        with self._lock, self._record.open("a") as record:
            record.write(hashlib.sha256(contents).hexdigest() + "\n")
        mixture = np.frombuffer(contents, np.float16).reshape(tuple(request.inputs[0].shape))
        return response(self._network.segment(mixture))


def main(folder: str, host: str, record: str, *party: str) -> None:
    with listening(Recorder(folder, Path(record)), host, Party(*map(Path, party)) if party else None) as address:
        print(address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
