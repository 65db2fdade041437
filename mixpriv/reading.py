"""Files that somebody else made: no more is read than such a file may hold, and nothing but a regular file."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mixpriv.errors import InputError, printable

_DEPTH = 32
_TEXT = 20_000
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)  # one without an end goes on to the file's


def read_file(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a regular file whole.

    Parameters
    ----------
    most : bytes that it may hold

    Raises
    ------
    InputError
        it is missing, cannot be read, is larger, or is a folder, a device or a pipe, which could be read for ever.
    """
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: that alone can wait, or change a device
            raise InputError(f"{name}: expected a regular file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size + 1) if size <= most else b""
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if size > most:
        raise InputError(f"{name}: expected at most {most} bytes, got {size}")
    if len(data) != size:
        raise InputError(f"{name}: expected {size} bytes, as its folder says, got more or fewer")
    return data


def require_own_files(folder: Path, names: Iterable[str]) -> None:
    """Refuse files of a folder that are no regular files, or links to what lies outside of it.

    Raises
    ------
    InputError
        naming the file; one that is missing is none of these.
    """
    home = folder.resolve()
    for name in names:
        path = folder / name
        if not os.path.lexists(path):
            continue
        try:
            inside = path.resolve().is_relative_to(home)
        except (OSError, RuntimeError):  # links in a circle
            inside = False
        if not inside or not os.path.isfile(path):
            raise InputError(f"{path}: expected a regular file inside the folder, got a link out of it or another kind")


def read_json(path: Path, most: int) -> Any:
    """Read a JSON file: every text in it one printable line, every number finite, no key twice, not nested deeply.

    Raises
    ------
    InputError
        it cannot be read, is larger than ``most`` bytes, or is anything else.
    """
    data = read_file(path, most)
    if _nesting(data) > _DEPTH:
        raise InputError(f"{path}: not readable as JSON (nested more than {_DEPTH} deep)")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_without_doubles)
    except _DoubleKeyError as error:
        raise InputError(f"{path}: not readable as JSON (the key {error} stands twice)") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({type(error).__name__})") from None
    trouble = _trouble(value, "")
    if trouble:
        raise InputError(f"{path}: {trouble}")
    return value


class _DoubleKeyError(Exception):
    pass


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers may take one of two equal keys each, and so two files be one."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DoubleKeyError(repr(printable(key, 40)))
        found[key] = value
    return found


def _nesting(data: bytes) -> int:
    depth = deepest = 0
    for bracket in re.findall(rb"[\[{\]}]", _STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _trouble(value: Any, place: str) -> str:
    """What is wrong with the texts and numbers of a document, and where; empty if nothing is."""
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inner = [(f"{place}.{key}" if place else key, item) for key, item in value.items()]
        value = "".join(value)
    elif isinstance(value, list):
        inner = [(place, item) for item in value]
    if isinstance(value, str) and not (value.isprintable() and len(value) <= _TEXT):
        return f"{printable(place, 60)}: expected text on one line, got {printable(value, 60)!r}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{printable(place, 60)}: expected a finite number, got {value}"
    return next((found for item in inner if (found := _trouble(item[1], item[0]))), "")
