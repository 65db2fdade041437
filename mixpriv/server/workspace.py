"""What a tritonserver keeps outside its memory, so that it is private while it runs and gone afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType

from mixpriv.errors import ServerUnavailableError

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the Python backend exchanges tensors
_TEMPORARY = Path("/tmp")  # noqa: S108 - where the Python backend makes folders, whatever TMPDIR says
_PREFIX = "mixpriv-"
_MADE_BY_US = re.compile(rf"{_PREFIX}\d+-[a-z0-9_]{{8}}")
_MARK = ".mixpriv-workspace"
"""A file in every workspace: what has none, whatever its name, is somebody's own."""

_LONGEST_BASE = 60
"""Characters; the path of a socket has about 100."""

_STALE_AFTER_S = 60.0


class Workspace:
    """A folder that only this user can enter, and a name for regions of shared memory, as a context manager.

    The folder is locked while this process lives: what a process that was killed left behind is removed by the next.

    Attributes
    ----------
    folder : short enough to hold a socket, without spaces in its path, on which Triton hangs
    regions : how the names of this server's shared memory begin
    """

    folder: Path
    regions: str

    def __enter__(self) -> Workspace:
        base = Path(tempfile.gettempdir())
        if len(str(base)) > _LONGEST_BASE or any(c.isspace() for c in str(base)):
            base = _TEMPORARY
        _remove_stale(base)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
        self._lock = _try_lock(self.folder)
        (self.folder / _MARK).touch()
        self.regions = f"{self.folder.name}-"
        self._foreign = _environments()
        self._environments: set[Path] | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _remove_regions(self.regions)
        for folder in _environments() - self._foreign if self._environments is None else self._environments:
            with contextlib.suppress(OSError):  # not empty: not ours
                folder.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def settle(self) -> None:
        """Take possession of what the server has made while it started."""
        # The Python backend lets every user read its shared memory, whatever the umask; so far it holds only zeros.
        for region in _regions(self.regions):
            region.chmod(0o600)
        # Empty folders that a killed server does not remove.
        self._environments = _environments() - self._foreign


def require_shared_memory(needed: int) -> None:
    """Check that so many bytes of shared memory are free.

    Raises
    ------
    ServerUnavailableError
        they are not, as in a container with its usual 64 MB.
    """
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free < needed:
        raise ServerUnavailableError(
            f"{_SHARED_MEMORY} has {free >> 20} MiB free, the server needs {-(-needed >> 20)} MiB: "
            "a container is given more by --shm-size"
        )


def _regions(prefix: str) -> list[Path]:
    return list(_SHARED_MEMORY.glob(f"{prefix}*"))


def _remove_regions(prefix: str) -> None:
    for region in _regions(prefix):
        region.unlink(missing_ok=True)


def _environments() -> set[Path]:
    return {path for path in _TEMPORARY.glob("python_env_*") if path.stat().st_uid == os.getuid()}


def _remove_stale(base: Path) -> None:
    """Remove our folders whose owner was killed: they are not locked, and not so young that they may be about to be."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            ours = _MADE_BY_US.fullmatch(folder.name) and (folder / _MARK).is_file() and status.st_uid == os.getuid()
            if ours and time.time() - status.st_mtime > _STALE_AFTER_S:
                lock = _try_lock(folder)
                if lock is not None:
                    _remove_regions(f"{folder.name}-")
                    shutil.rmtree(folder, ignore_errors=True)
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
