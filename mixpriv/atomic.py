"""Where the client keeps its own things, and how files are written: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mixpriv.errors import InputError, OutputError
from mixpriv.newfile import NewFile, try_to_write


def config_folder() -> Path:
    """Name the user's configuration folder for mixpriv: ``$XDG_CONFIG_HOME/mixpriv`` or ``~/.config/mixpriv``."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def data_folder() -> Path:
    """Name the user's data folder for mixpriv: ``$XDG_DATA_HOME/mixpriv`` or ``~/.local/share/mixpriv``."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def _xdg(variable: str, default: str) -> Path:
    base = Path(os.environ.get(variable, ""))
    # The XDG rules say that a relative path there must be ignored.
    return (base if base.is_absolute() else _home() / default) / "mixpriv"


def _home() -> Path:
    """The user's home folder; a relative one would be another in each working folder.

    Raises
    ------
    InputError
        neither HOME nor the system knows one.
    """
    home = os.environ.get("HOME", "")
    if os.name == "posix" and not os.path.isabs(home):
        import pwd

        with contextlib.suppress(KeyError):
            home = pwd.getpwuid(os.getuid()).pw_dir
    elif os.name != "posix":
        home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise InputError("no home folder is known: set HOME, or XDG_CONFIG_HOME and XDG_DATA_HOME, to a full path")
    return Path(home)


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


def make_folder(path: Path, mode: int = 0o777) -> Path:
    """Create a folder for outputs, with its parents; OutputError where that is not possible."""
    try:
        path.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot create this folder ({error.strerror})") from None
    return path


def check_outputs(paths: Iterable[Path], *, force: bool, made: bool = False, hint: str = "give --force") -> None:
    """Before any work: outputs do not exist yet (or ``force``), and a file can be written into their folder.

    With ``made`` a folder that does not exist will be made, and the one above it counts. ``hint`` tells how the user
    can say ``force``.

    Raises
    ------
    InputError
        an output exists.
    OutputError
        its folder is missing, or takes no file.
    """
    tried = set()
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
            raise InputError(f"{path}: output exists; {hint} to overwrite it")
        folder = path.parent
        while made and not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
        if not os.path.isdir(folder):
            raise OutputError(f"{path}: cannot be written, its folder does not exist")
        if folder not in tried:
            with _told(path):
                try_to_write(folder)
            tried.add(folder)


def write_file(path: Path, content: bytes, *, mode: int = 0o666, replace: bool = True) -> None:
    """Write a file whole or not at all, see `write_files`."""
    write_files({path: content}, mode=mode, replace=replace)


def write_outputs(
    contents: Mapping[Path, bytes], *, force: bool, mode: int = 0o666, hint: str = "give --force"
) -> None:
    """Write files that a user asked for, see `write_files`: one that somebody made meanwhile is not lost.

    ``hint`` tells how the user can say ``force``.

    Raises
    ------
    InputError
        an output exists, and ``force`` is not given.
    OutputError
        a folder or the disk does not take them.
    """
    try:
        write_files(contents, mode=mode, replace=force)
    except FileExistsError as error:
        raise InputError(f"{error.filename}: output exists; {hint} to overwrite it") from None


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
        written: list[NewFile] = []
        for path, content in contents.items():
            with _told(path):
                written.append(stack.enter_context(NewFile(path, content, mode)))
        try:
            for one in written:
                with _told(one.path):
                    one.name(replace=replace)
        except BaseException:
            for one in written if not replace else ():
                one.unname()
            raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of the system name the file."""
    try:
        yield
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path)) from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or type(error).__name__})") from None
