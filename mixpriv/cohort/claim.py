"""Several clients on one cohort: what one works on is left alone by the others."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from mixpriv.errors import OutputError

_BUSY = (errno.EACCES, errno.EAGAIN)


class Claim:
    """A lock on a scan's results, held until `release`; it also goes when its process ends, in whatever way."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def release(self) -> None:
        """Let others have it; nothing is left in the folder."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def claim(path: Path) -> Claim | None:
    """Take a lock, which is a file that nobody else has locked; None if another client holds it.

    Where a file system has no locks each client gets its own: then no result is lost, but work may be done twice.

    Raises
    ------
    OutputError
        the file cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mine = claim(Path(folder, "lock"))
    ...     print(claim(Path(folder, "lock")))
    ...     mine.release()
    None
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
        if not _lock(descriptor):
            os.close(descriptor)
            return None
        # Who held it before may have removed the file: then ours has no name, and the next client makes another.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return Claim(path, descriptor)
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True
