"""A file that has its name only when it is whole, on any file system: with or without hard links and nameless files."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_TRIED_BYTES = 2**16
"""What a folder must take before work begins: about the smallest label map."""


class NewFile:
    """A new file with its content on the disk, but without its name, as a context manager: without a name it is gone.

    Linux makes files without any name; elsewhere, and on file systems that do not (NFS), it is a hidden one.
    """

    def __init__(self, path: Path, content: bytes, mode: int) -> None:
        self.path = path
        self._content, self._mode = content, mode
        self._temporary = _temporary_in(path.parent)
        self._descriptor = -1

    def __enter__(self) -> NewFile:
        try:
            self._descriptor, self._hidden = _open_new(self._temporary, self._mode)
            self._fill()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def name(self, *, replace: bool) -> None:
        """Give it its name; FileExistsError if there is such a file and ``replace`` is not given."""
        if not self._hidden:
            try:
                _link_open(self._descriptor, self._temporary if replace else self.path)
            except FileExistsError:
                raise
            except OSError:  # no hard links here: only a file that has a name can be given another
                self._hide()
            else:
                if not replace:
                    return
        if replace:
            self._temporary.replace(self.path)
        else:
            name_new(self._temporary, self.path)

    def unname(self) -> None:
        """Take its name from it again, if it has it: nobody else's file is removed."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), self.path.lstat()):
                self.path.unlink()

    def _fill(self) -> None:
        with os.fdopen(os.dup(self._descriptor), "wb") as stream:
            stream.write(self._content)
            stream.flush()
            os.fsync(stream.fileno())

    def _hide(self) -> None:
        """Write it again, as a hidden file."""
        os.close(self._descriptor)
        self._descriptor, self._hidden = os.open(self._temporary, _CREATE, self._mode), True
        self._fill()

    def _close(self) -> None:
        self._temporary.unlink(missing_ok=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def try_to_write(folder: Path) -> None:
    """Write a little into a folder and leave nothing there; OSError if it cannot be: no permission, a full disk."""
    temporary = _temporary_in(folder)
    descriptor, _ = _open_new(temporary, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(bytes(_TRIED_BYTES))
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_in(folder: Path) -> Path:
    return folder / f".mixpriv-{secrets.token_hex(8)}.part"


def _open_new(path: Path, mode: int) -> tuple[int, bool]:
    """A new file to write: without a name if that can be, else at ``path``; and whether it has one."""
    unnamed = getattr(os, "O_TMPFILE", None)  # Linux
    if unnamed is not None and Path("/proc/self/fd").is_dir():
        with contextlib.suppress(OSError):
            return os.open(path.parent, os.O_WRONLY | unnamed, mode), False
    return os.open(path, _CREATE, mode), True


def _link_open(descriptor: int, path: Path) -> None:
    """Give an open file without a name one."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        # only with a folder's descriptor does Python have the system follow the link
        os.link(f"/proc/self/fd/{descriptor}", path.name, dst_dir_fd=folder)
    finally:
        os.close(folder)


def name_new(temporary: Path, path: Path) -> None:
    """Rename a file to a name that nobody has; FileExistsError if somebody has it, also at the same moment."""
    ways: tuple[Callable[[Path, Path], None], ...] = (os.link, _rename_new, _claim)
    for number, way in enumerate(ways, start=1):
        try:
            way(temporary, path)
        except FileExistsError:
            raise
        except OSError:
            if number == len(ways):
                raise
        else:
            return


def _rename_new(temporary: Path, path: Path) -> None:
    """Linux' way where there are no hard links: exFAT, SMB."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    here, no_replace = -100, 1  # AT_FDCWD, RENAME_NOREPLACE
    if rename(here, os.fsencode(temporary), here, os.fsencode(path), no_replace):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(path))


def _claim(temporary: Path, path: Path) -> None:
    """The way everywhere: an empty file keeps the name free for the moment until it is replaced."""
    os.close(os.open(path, _CREATE, 0o600))
    try:
        temporary.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
