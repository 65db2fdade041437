"""The front's log: a line of JSON for each call, chained by hashes, only ever added to.

Each line ends with the SHA-256 of the line before it (its hash, in hexadecimal) and of what it says itself. Beside the
log, ``FILE.head`` holds number and hash of the last line, so that lines missing at the end are found as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from mixpriv.errors import InputError, OutputError

_LINE = re.compile(rb'(\{"n":(\d{1,15}),.*),"hash":"([0-9a-f]{64})"\}\n', re.DOTALL)
_HEAD = re.compile(rb"(\d{1,15}) ([0-9a-f]{64})\n")
_FIRST = "0" * 64
_LONGEST_LINE = 2**16


@dataclass(frozen=True)
class Head:
    """Where the chain stands: number and hash of its last line."""

    count: int = 0
    hash: str = _FIRST


class RequestLog:
    """A log that is written, as a context manager; one process at a time.

    Raises
    ------
    OutputError
        it cannot be opened or written.
    InputError
        another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head = Head()

    def __enter__(self) -> RequestLog:
        try:
            with contextlib.ExitStack() as opened:  # what stays open would keep the next one out, in this process too
                self._log = _opened(self.path, os.O_RDWR | os.O_APPEND)
                opened.callback(os.close, self._log)
                fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._head = _opened(_head_of(self.path), os.O_RDWR)
                opened.callback(os.close, self._head)
                self._take_up()
                opened.pop_all()
        except BlockingIOError:
            raise InputError(f"{self.path}: another server writes this log") from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._log)
        os.close(self._head)

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Append records; they are on the disk when it returns.

        Raises
        ------
        OutputError
            the disk does not take them; none of a line is left there.
        """
        text, head = b"", self.head
        for record in records:
            line, head = _line(record, head)
            text += line
        size = os.fstat(self._log).st_size
        try:
            if os.write(self._log, text) != len(text):
                os.ftruncate(self._log, size)
                raise OSError(28, os.strerror(28))
            os.fdatasync(self._log)
            os.pwrite(self._head, f"{head.count} {head.hash}\n".encode(), 0)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        self.head = head

    def _take_up(self) -> None:
        """Go on where the chain ended; what is missing or torn stays so, for `verify` to find."""
        size = os.fstat(self._log).st_size
        tail = os.pread(self._log, _LONGEST_LINE, max(0, size - _LONGEST_LINE))
        if tail and not tail.endswith(b"\n"):
            os.write(self._log, b"\n")
        self.head = max(_last_head(tail), _parsed_head(os.pread(self._head, 100, 0)), key=lambda head: head.count)


def verify(path: Path, noted: str | None = None) -> tuple[Head, list[str]]:
    """Check a log's chain; where it ends, and what is wrong with it.

    Parameters
    ----------
    noted : a hash that was kept elsewhere, which the chain must hold

    Raises
    ------
    InputError
        the log, or what stands beside it, cannot be read.
    """
    try:
        with path.open("rb") as stream:
            head, findings, seen = _follow(stream, noted)
        expected = _parsed_head(_head_of(path).read_bytes())
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None
    if expected.count > head.count:
        findings.append(f"lines {head.count + 1} to {expected.count}, the last ones, are missing")
    elif expected != head:
        findings.append(f"{_head_of(path).name} is not of this log")
    if not seen:
        findings.append(f"no line has the hash {noted}")
    return head, findings


def _follow(stream: Iterable[bytes], noted: str | None) -> tuple[Head, list[str], bool]:
    """Follow the chain; where it ends, what is wrong, and whether the hash was seen."""
    head, findings, seen = Head(), list[str](), noted is None
    for number, line in enumerate(stream, start=1):
        found = _LINE.fullmatch(line)
        if found is None:
            findings.append(f"line {number} is damaged")
            continue
        count, said = int(found[2]), found[3].decode()
        if count != head.count + 1:
            findings.append(f"line {number}: record {count} follows record {head.count}")
        elif _hash(head.hash, found[1]) != said:
            findings.append(f"line {number} (record {count}), or the one before it, was changed")
        head = Head(count, said)
        seen = seen or said == noted
    return head, findings, seen


def records_of(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The records of what Envoy says of calls and connections: who, when, bytes, model, outcome; no content."""
    for line in lines:
        try:
            record = _record(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):  # the log goes on, whatever stands in a line
            record = {"time": _now(), "event": "unreadable"}
        if record is not None:
            yield record


def _record(said: Any) -> dict[str, Any] | None:
    """The record of one line; None for a connection that was let in."""
    who = {"time": said["time"], "site": _site(said["site"]), "serial": said["serial"], "address": said["address"]}
    if "refused" not in said:
        what = {key: said[key] for key in ("model", "bytes_in", "bytes_out", "ms")}
        call = str(said["call"]).rpartition("/")[2][:40]
        return {"event": "call", **who, "call": call, **what, "outcome": _outcome(said)}
    return {"event": "refused", **who, "reason": _reason(said["refused"])} if said["refused"] else None


def event(name: str) -> dict[str, Any]:
    """The record of something that is no call: that the log began, or ended."""
    return {"event": name, "time": _now()}


def _outcome(said: dict[str, Any]) -> str:
    if said["flags"] in ("RL", "UO"):
        return "over quota"
    return str(said["outcome"] or "broken off").lower().replace("_", " ")


def _reason(told: str) -> str:
    """The last words of what TLS says: its numbers and functions tell an operator nothing."""
    words = told.removesuffix(":TLS_error_end").rpartition(":")[2]
    return words.replace("_", " ").strip()[:80]


def _site(uri: str | None) -> str | None:
    return uri and uri.rpartition("/")[2][:63]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(record: dict[str, Any], head: Head) -> tuple[bytes, Head]:
    text = json.dumps({"n": head.count + 1, **record}, separators=(",", ":"), ensure_ascii=True)[:-1].encode()
    new = Head(head.count + 1, _hash(head.hash, text))
    return text + f',"hash":"{new.hash}"}}\n'.encode(), new


def _hash(before: str, text: bytes) -> str:
    return hashlib.sha256(before.encode() + text).hexdigest()


def _last_head(tail: bytes) -> Head:
    """What the last whole line says of the chain."""
    for line in reversed(tail.splitlines(keepends=True)):
        found = _LINE.fullmatch(line)
        if found is not None:
            return Head(int(found[2]), found[3].decode())
    return Head()


def _parsed_head(text: bytes) -> Head:
    found = _HEAD.match(text)
    return Head(int(found[1]), found[2].decode()) if found else Head()


def _head_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


def _opened(path: Path, how: int) -> int:
    return os.open(path, how | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: the log cannot be written ({error.strerror})")
