"""The one place where lines are printed: without control characters, and with a word for an output that is lost."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from mixpriv.errors import OutputError, printable

LONGEST_LINE = 10_000
"""Characters: two of the longest paths fit, with what is said of them."""


def open_streams() -> None:
    """Open what is closed of the three standard streams, on nothing.

    Else the next file that is opened takes the stream's number, and what a library prints is written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number that is free
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text


def say(line: str) -> None:
    """Print a line of a result on the standard output; OutputError if that cannot be written."""
    say_text(printable(line, LONGEST_LINE))


def say_json(document: Any) -> None:
    """Print a JSON document, in which control characters are escaped, like `say`."""
    say_text(json.dumps(document, indent=2))


def say_text(text: str) -> None:
    """Print lines that hold no foreign text, like `say`."""
    stream = sys.stdout
    if stream is None:  # it was closed when we began
        raise OutputError(f"standard output: cannot be written ({os.strerror(errno.EBADF)})")
    with _told(stream):
        print(text, file=stream, flush=True)


def flush() -> None:
    """Say now, and not when the interpreter ends, whether the standard output takes what was printed on it."""
    stream = sys.stdout
    if stream is not None:
        with _told(stream):
            stream.flush()


@contextlib.contextmanager
def _told(stream: TextIO) -> Iterator[None]:
    """Tell that the standard output is lost."""
    try:
        yield
    except (OSError, ValueError) as error:
        _abandon(stream)
        reason = getattr(error, "strerror", None) or "closed"
        raise OutputError(f"standard output: cannot be written ({reason})") from None


def complain(program: str, message: str) -> None:
    """Print one line on the standard error stream; where that is closed or full there is nobody to tell."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        print(printable(f"{program}: {message}", LONGEST_LINE), file=stream, flush=True)
    except (OSError, ValueError):
        _abandon(stream)


def _abandon(stream: TextIO) -> None:
    """Send all further text of a stream nowhere: what waits in it would fail again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a number
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
