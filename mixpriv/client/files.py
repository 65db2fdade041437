"""Where the client keeps its own things, and how files are written: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mixpriv.errors import InputError, OutputError


def config_folder() -> Path:
    """Name the user's configuration folder for mixpriv: ``$XDG_CONFIG_HOME/mixpriv`` or ``~/.config/mixpriv``."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def data_folder() -> Path:
    """Name the user's data folder for mixpriv: ``$XDG_DATA_HOME/mixpriv`` or ``~/.local/share/mixpriv``."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def _xdg(variable: str, default: str) -> Path:
    base = Path(os.environ.get(variable, ""))
    # The XDG rules say that a relative path there must be ignored.
    return (base if base.is_absolute() else Path.home() / default) / "mixpriv"


def private_folder(path: Path) -> Path:
    """Create a folder that only its owner may enter (0700), its parents as usual; returns it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise OutputError(f"{path}: cannot create this private folder ({error.strerror})") from None
    return path


def make_folder(path: Path) -> Path:
    """Create a folder for outputs, with its parents; OutputError where that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot create this folder ({error.strerror})") from None
    return path


def check_outputs(paths: Iterable[Path], *, force: bool, made: bool = False) -> None:
    """Before any work: outputs do not exist yet (or ``force``), and their folder is one that we may write to.

    With ``made`` a folder that does not exist will be made, and the one above it counts.

    Raises
    ------
    InputError
        an output exists.
    OutputError
        its folder is missing or not writable.
    """
    for path in paths:
        if os.path.isdir(path):
            raise OutputError(f"{path}: expected a file name for the output, got a folder")
        try:
            there = bool(path.lstat())
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError as error:  # no way into its folder, or a name that is too long
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
        if there and not force:
            raise InputError(f"{path}: output exists; give --force to overwrite it")
        folder = path.parent
        while made and not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
        if not os.path.isdir(folder):
            raise OutputError(f"{path}: cannot be written, its folder does not exist")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{path}: cannot be written, no permission in its folder")


def write_file(path: Path, content: bytes, *, mode: int = 0o666, replace: bool = True) -> None:
    """Write a file whole or not at all, see `write_files`."""
    write_files({path: content}, mode=mode, replace=replace)


def write_files(contents: Mapping[Path, bytes], *, mode: int = 0o666, replace: bool = True) -> None:
    """Write files that belong together, all of them whole or none: without names, flushed to disk, then named.

    A client that is killed while it writes leaves nothing behind. Where the file system has none without names (NFS)
    they are hidden ones beside the others. What was there stays until all are on the disk. With ``replace=False``
    an existing file is left alone and `FileExistsError` is raised, also when another process creates it at the same
    moment.

    Raises
    ------
    OutputError
        a folder or the disk does not take them.
    """
    with contextlib.ExitStack() as stack:
        written = []
        for path, content in contents.items():
            with _told(path):
                written.append(stack.enter_context(_written(path, content, mode)))
        named: list[Path] = []
        try:
            for one in written:
                with _told(one.path):
                    one.name(replace=replace)
                named.append(one.path)
        except BaseException:
            for path in named if not replace else ():
                path.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of the system name the file, but for one that exists."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or type(error).__name__})") from None


@dataclass(frozen=True)
class _Written:
    """A file that is on the disk and has no name yet, or a hidden one."""

    path: Path
    descriptor: int
    temporary: Path
    hidden: bool

    def name(self, *, replace: bool) -> None:
        """Give it its name."""
        if replace:
            if not self.hidden:
                _link_open(self.descriptor, self.temporary)
            self.temporary.replace(self.path)
        elif self.hidden:
            os.link(self.temporary, self.path)
        else:
            _link_open(self.descriptor, self.path)


@contextlib.contextmanager
def _written(path: Path, content: bytes, mode: int) -> Iterator[_Written]:
    """A new file with this content; what has no name at the end is gone."""
    temporary = path.with_name(f".mixpriv-{secrets.token_hex(8)}.part")
    descriptor, hidden = _open_new(temporary, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            yield _Written(path, stream.fileno(), temporary, hidden)
    finally:
        temporary.unlink(missing_ok=True)


def _open_new(path: Path, mode: int) -> tuple[int, bool]:
    """A new file to write: without a name if that can be, else at ``path``; and whether it has one."""
    unnamed = getattr(os, "O_TMPFILE", None)  # Linux
    if unnamed is not None and Path("/proc/self/fd").is_dir():
        with contextlib.suppress(OSError):
            return os.open(path.parent, os.O_WRONLY | unnamed, mode), False
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), True


def _link_open(descriptor: int, path: Path) -> None:
    """Give an open file without a name one."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        # only with a folder's descriptor does Python have the system follow the link
        os.link(f"/proc/self/fd/{descriptor}", path.name, dst_dir_fd=folder)
    finally:
        os.close(folder)
