"""``mixpriv-server`` as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mixpriv.bundle import Bundle
from tests.server.processes import kill_all


@contextmanager
def command(bundle: Bundle, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command with these options, gone at the end in any case."""
    arguments = [sys.executable, "-m", "mixpriv.cli.server.main", "--bundle", str(bundle.directory), *options]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                kill_all(process.pid)


def address_when_ready(process: subprocess.Popen[str]) -> str:
    """Wait until the command says that it is ready; the address that it tells."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " ready on " in line, process.stderr.read() if process.stderr else ""
    return line.split()[-1]
