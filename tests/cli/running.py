"""``mixpriv-client`` as a process."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mixpriv.engine.in_process import InProcessSegmenter
from tests.server.processes import kill_all
from tests.support.toybundle import write_toy_bundle

Run = Callable[..., tuple[int, str, str]]
"""Arguments of ``segment`` to exit code, standard output, standard error."""


def slowness_of(seconds: float, most: int, folder: Path) -> int:
    """How many idle convolutions take about so long on this machine, as busy as it is, but no more than ``most``."""
    bundle = write_toy_bundle(folder, slowness=2)
    segmenter, mixture = InProcessSegmenter(bundle.segmenter_path), np.zeros((1, 1, *bundle.grid_shape), np.float16)
    segmenter.segment(mixture)
    begin = time.monotonic()
    segmenter.segment(mixture)
    return min(most, math.ceil(seconds * 2 / (time.monotonic() - begin)))


IN_PROCESS = """
from mixpriv.api import Client
from mixpriv.engine.in_process import InProcessSegmenter

Client._segmenter = lambda client: InProcessSegmenter(client.bundle.segmenter_path)
"""
"""Python for `started` that spares a run its server: the segmenter runs in the client."""


@contextlib.contextmanager
def started(*arguments: object, first: str = "") -> Iterator[subprocess.Popen[str]]:
    """The client in a session of its own, that takes Ctrl-C even if who runs the tests ignores it.

    `first` is Python that runs before it.
    """
    code = first + (
        "\nimport signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from mixpriv.cli.client.main import main; sys.exit(main(sys.argv[1:]))"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            kill_all(running.pid)
            running.communicate()
