"""What a tritonserver keeps outside its memory, so that it is private while it runs and gone afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path
from types import TracebackType

from mixpriv.errors import ServerUnavailableError
from mixpriv.wire.contract import printable

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the Python backend exchanges tensors
_ELSEWHERE = ("/tmp", "/var/tmp")  # noqa: S108 - where TMPDIR's folder cannot be used
_PREFIX = "mixpriv-"
_MADE_BY_US = re.compile(rf"{_PREFIX}\d+-[a-z0-9_]{{8}}")
_MARK = ".mixpriv-workspace"
"""A file in every workspace: what holds anything else and not this, whatever its name, is somebody's own."""

_PLAIN = re.compile(r"/[A-Za-z0-9/._+=@-]{0,59}")
"""Paths that Triton's shell, gRPC's addresses and the loader all take as they are, short enough for a socket's."""

_STALE_AFTER_S = 60.0


class Workspace:
    """A folder that only this user can enter, and a name for regions of shared memory, as a context manager.

    The folder is locked while this process lives: what a process that was killed left behind is removed by the next.

    Attributes
    ----------
    folder : with a plain path, short enough to hold a socket
    regions : how the names of this server's shared memory begin
    """

    folder: Path
    regions: str

    def __enter__(self) -> Workspace:
        self.folder = _make_folder()
        self._lock = _try_lock(self.folder)
        (self.folder / _MARK).touch()
        _remove_stale(self.folder.parent)
        self.regions = f"{self.folder.name}-"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _remove_regions(self.regions)
        with contextlib.suppress(OSError):  # somebody's cleaning was faster; else the next server tries again
            _remove(self.folder)
        if self._lock is not None:
            os.close(self._lock)

    def check_private(self) -> None:
        """Make sure that no other user can read the shared memory that the server has made.

        Raises
        ------
        ServerUnavailableError
            they can.
        """
        for region in _SHARED_MEMORY.glob(f"{self.regions}*"):
            if region.stat().st_mode & 0o077:
                raise ServerUnavailableError(f"{region} can be read by other users: the server is not used")


def _make_folder() -> Path:
    """A new folder in the first temporary one that can be written and whose path is plain.

    Raises
    ------
    ServerUnavailableError
        there is none.
    """
    named = [folder for name in ("TMPDIR", "TEMP", "TMP") if (folder := os.environ.get(name))]
    bases = tuple(dict.fromkeys((*named, *_ELSEWHERE)))
    for base in filter(_PLAIN.fullmatch, bases):
        with contextlib.suppress(OSError):  # missing, not ours to write, full: the next
            return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    raise ServerUnavailableError(
        f"no temporary folder for the server among {printable(', '.join(bases), 120)}: set TMPDIR to one that can be "
        "written, with at most 60 plain characters in its path"
    )


def require_shared_memory(needed: int) -> None:
    """Check that so many bytes of shared memory are free.

    Raises
    ------
    ServerUnavailableError
        they are not, as in a container with its usual 64 MB, or there is none.
    """
    if not os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
        raise ServerUnavailableError(
            f"the server needs {_SHARED_MEMORY}, a folder in memory: it is missing or not writable"
        )
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free < needed:
        raise ServerUnavailableError(
            f"{_SHARED_MEMORY} has {free >> 20} MiB free, the server needs {-(-needed >> 20)} MiB: "
            "a container is given more by --shm-size"
        )


def _remove_regions(prefix: str) -> None:
    for region in _SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Remove a workspace, its mark last: if we are killed meanwhile, the rest can still be told to be ours."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != _MARK:
            path.unlink(missing_ok=True)
    (folder / _MARK).unlink(missing_ok=True)
    folder.rmdir()


def _remove_stale(base: Path) -> None:
    """Remove our folders whose owner was killed: they are not locked, and not so young that they may be about to be."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another removes it, or it is none of ours
            status = folder.lstat()
            ours = _MADE_BY_US.fullmatch(folder.name) and stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
            if not ours or time.time() - status.st_mtime < _STALE_AFTER_S:
                continue
            lock = _try_lock(folder)
            if lock is not None:
                try:
                    if (folder / _MARK).is_file():
                        _remove_regions(f"{folder.name}-")
                        _remove(folder)
                    else:
                        folder.rmdir()  # only if it is empty: its owner was killed just before or after it had a mark
                finally:
                    os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """The descriptor that holds the lock on a folder until it is closed; None if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
