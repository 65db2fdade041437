"""The errors a user can meet, each with its documented exit code.

Messages are one line, name the argument or file, say what was expected and what came, and never hold voxel values,
header fields, keys, weights or references.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LONGEST = 4000


class MixprivError(Exception):
    """Base of all errors raised on purpose; anything else is a bug."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__(), _LONGEST)  # a file's name may hold anything


class InputError(MixprivError, ValueError):
    """Bad usage or bad input: a file, an array or an option is not what it must be."""

    exit_code = 2


class UnfitScanError(InputError):
    """The scan is not what the bundle is for, as ``checks`` (`mixpriv.quality.check.Check`) tell: it is not sent."""

    def __init__(self, message: str, checks: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.checks = tuple(checks)


class DeviceError(MixprivError, RuntimeError):
    """The CUDA device that was asked for is missing, has failed or lacks memory."""

    exit_code = 2


class ServerUnavailableError(MixprivError):
    """The server is unreachable, busy, too slow, refuses us, or an embedded one cannot start."""

    exit_code = 3


class ServerBusyError(ServerUnavailableError):
    """The server is well but has too much to do: asking again later helps."""


class ServerLostError(ServerUnavailableError):
    """The server is not there, broke off or stands still: another, or the same after a restart, may answer."""


class EngineError(ServerUnavailableError):
    """The GPU, or TensorRT on it, is missing or fails."""


class IncompatibleServerError(MixprivError):
    """The server serves another network than the one the client's unmixer was trained with."""

    exit_code = 4


class OutputError(MixprivError, OSError):
    """An output file cannot be written."""

    exit_code = 5


def printable(text: str, limit: int = 200) -> str:
    r"""The text on one line that a terminal can show: what cannot be printed as its escape, cut at ``limit``.

    Examples
    --------
    >>> printable("two\nlines")
    'two\\nlines'
    >>> printable("much too long", 4)
    'much...'
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return line if len(line) <= limit else line[:limit] + "..."
