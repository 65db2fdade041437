"""``mixpriv-client`` as a process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tests.server.processes import kill_all


@contextlib.contextmanager
def started(*arguments: object, first: str = "") -> Iterator[subprocess.Popen[str]]:
    """The client in a session of its own, that takes Ctrl-C even if who runs the tests ignores it.

    `first` is Python that runs before it.
    """
    code = first + (
        "\nimport signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from mixpriv.cli.client import main; sys.exit(main(sys.argv[1:]))"
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
