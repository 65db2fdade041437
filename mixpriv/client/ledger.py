"""The local ledger: what was sent of which scan, and which references are spent.

Append-only, in one SQLite file of the user's data folder. It holds keyed digests, never voxels, names, references or
weights. It refuses a second, different view of a scan that a server has seen. A damaged ledger stops every command that
needs it, and so does a lost one (a mark beside the key tells that there was one), until the user begins a new one:
without it no view can be shown to be the first, and no reference to be unused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from mixpriv.atomic import config_folder, data_folder, private_folder
from mixpriv.client.entry import Entry, refuse_repeat
from mixpriv.errors import InputError, MixprivError, OutputError
from mixpriv.newfile import try_to_write
from mixpriv.wire.delivery import now

_SCHEMA = 3
_CREATE = """
CREATE TABLE sent (id INTEGER PRIMARY KEY, time TEXT NOT NULL, server TEXT NOT NULL, bundle TEXT NOT NULL,
                   mode TEXT NOT NULL, views INTEGER NOT NULL, content BLOB NOT NULL, likeness BLOB NOT NULL,
                   client BLOB NOT NULL DEFAULT x'', view BLOB NOT NULL DEFAULT x'',
                   domain TEXT NOT NULL DEFAULT '');
CREATE TABLE spent (reference TEXT PRIMARY KEY, time TEXT NOT NULL, content BLOB NOT NULL, slot INTEGER NOT NULL,
                    UNIQUE (content, slot));
CREATE TRIGGER sent_stays BEFORE DELETE ON sent BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER spent_stays BEFORE DELETE ON spent BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""
_FROM_2 = "ALTER TABLE sent ADD COLUMN domain TEXT NOT NULL DEFAULT ''"
_FROM_1 = f"""
ALTER TABLE sent ADD COLUMN client BLOB NOT NULL DEFAULT x'';
ALTER TABLE sent ADD COLUMN view BLOB NOT NULL DEFAULT x'';
{_FROM_2}
"""
_KINDS = (str, str, str, str, int, bytes, bytes, bytes, bytes, str)
_COLUMNS = "time, server, bundle, mode, views, content, likeness, client, view, domain"


def ledger_path() -> Path:
    """Where this user's ledger is kept."""
    return data_folder() / "ledger.sqlite3"


class Ledger:
    """The ledger file; every call is one transaction, so several processes may use it at once.

    Every method raises `InputError` when the file is damaged or no ledger, and `OutputError` when it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Ledger(Path(folder) / "ledger.sqlite3").entries()
    []
    """

    def __init__(self, path: Path | None = None) -> None:
        self._given = path

    @property
    def path(self) -> Path:
        """Its file; asked only when it is needed, since the user may have no folder for it."""
        return self._given or ledger_path()

    def check(self) -> None:
        """Before any work: it can be written, and is a ledger or about to be one."""
        private_folder(self.path.parent)
        private_folder(self._mark.parent)
        if self._is_there():
            with self._transaction():
                pass
            return
        self._require_no_mark()
        for folder in (self.path.parent, self._mark.parent):
            try:
                try_to_write(folder)
            except OSError as error:
                raise OutputError(f"{folder}: cannot be written ({error.strerror})") from None

    def enter(self, *entries: Entry, allow_repeat: bool = False) -> list[Entry]:
        """Note that a scan is about to be sent, and return what was before: one transaction, so only one is first.

        Several entries are those of a scan whose requests go to operators that are trusted apart: all or none.

        Raises
        ------
        InputError
            a server would see another view of a scan that one has seen, or too many at once, see `refuse_repeat`, and
            ``allow_repeat`` is not given. Nothing is noted then.
        """
        with self._transaction() as db:
            earlier = _read(db)
            left = [one for one in earlier if one.left_machine]
            for entry in entries:
                if entry.left_machine and not allow_repeat:
                    refuse_repeat(entry, left)
            marks = ", ".join("?" * len(_KINDS))
            db.executemany(f"INSERT INTO sent ({_COLUMNS}) VALUES ({marks})", map(astuple, entries))  # noqa: S608
        return earlier

    def entries(self) -> list[Entry]:
        """All that was sent, oldest first."""
        if not self._is_there():
            return []
        with self._transaction() as db:
            return _read(db)

    def spend(self, content: bytes, references: Sequence[str], count: int) -> list[str]:
        """Choose ``count`` references for a scan and mark them as spent, or give back those it already spent.

        Parameters
        ----------
        content : keyed digest of the scan and of how it is sent
        references : names in the bank, in the order of preference

        Raises
        ------
        InputError
            fewer than ``count`` are unused.
        """
        with self._transaction() as db:
            own = [r for (r,) in db.execute("SELECT reference FROM spent WHERE content = ? ORDER BY slot", (content,))]
            taken = {r for (r,) in db.execute("SELECT reference FROM spent")}
            free = [r for r in references if r not in taken]
            missing = max(0, count - len(own))
            if missing > len(free):
                raise InputError(f"reference bank: expected {missing} unused references for this scan, got {len(free)}")
            for slot, reference in enumerate(free[:missing], start=len(own)):
                db.execute("INSERT INTO spent VALUES (?, ?, ?, ?)", (reference, now(), content, slot))
            return [*own, *free[:missing]][:count]

    def spent(self) -> set[str]:
        """Names of all references that were used."""
        if not self._is_there():
            return set()
        with self._transaction() as db:
            return {r for (r,) in db.execute("SELECT reference FROM spent")}

    def begin(self) -> None:
        """Start a new, empty ledger where none is, also after one was lost: on the user's word alone.

        Raises
        ------
        InputError
            there is one.
        """
        if self._is_there() and self.path.stat().st_size:
            raise InputError(f"{self.path}: exists; move it away first, its counts are lost then")
        with self._usable():
            self._mark.unlink(missing_ok=True)
        with self._transaction():
            pass

    @property
    def _mark(self) -> Path:
        return config_folder() / f"{self.path.name}.begun"

    def _is_there(self) -> bool:
        with self._usable():
            try:
                self.path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Errors of the system name the ledger."""
        try:
            yield
        except MixprivError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path}: ledger cannot be used ({error.strerror})") from None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        private_folder(self.path.parent)
        if not os.path.lexists(self.path):
            self._require_no_mark()
        try:
            with (
                self._usable(),
                closing(sqlite3.connect(self.path, timeout=30.0, isolation_level=None)) as db,
            ):
                db.execute("BEGIN IMMEDIATE")
                self._check_schema(db)
                yield db
                db.execute("COMMIT")  # left out on any error: closing then rolls back
        except sqlite3.OperationalError as error:
            raise OutputError(f"{self.path}: ledger cannot be used ({error})") from None
        except sqlite3.DatabaseError:
            raise InputError(
                f"{self.path}: damaged, or not a mixpriv ledger; move it away and begin anew with 'mixpriv-client "
                "ledger --new' (its counts are lost)"
            ) from None

    def _check_schema(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._require_no_mark()  # a file that was emptied
            self._run(db, _CREATE)
            db.execute("COMMIT")  # before the mark, which says that it is there
            private_folder(self._mark.parent)
            self._mark.touch(mode=0o600)
            db.execute("BEGIN IMMEDIATE")
        elif version == 1 and db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sent'").fetchone():
            self._run(db, _FROM_1)
        elif version == 2 and db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sent'").fetchone():
            self._run(db, _FROM_2)
        elif version != _SCHEMA:
            raise InputError(f"{self.path}: expected a mixpriv ledger of schema {_SCHEMA}, got another file")

    def _require_no_mark(self) -> None:
        if os.path.lexists(self._mark):
            raise InputError(
                f"{self.path}: lost, though scans were sent before; restore it, or begin anew with "
                "'mixpriv-client ledger --new'"
            )

    def _run(self, db: sqlite3.Connection, script: str) -> None:
        for statement in script.split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {_SCHEMA}")


def _read(db: sqlite3.Connection) -> list[Entry]:
    entries = [Entry(*row) for row in db.execute(f"SELECT {_COLUMNS} FROM sent ORDER BY id")]  # noqa: S608
    if any(tuple(map(type, astuple(entry))) != _KINDS for entry in entries):
        raise sqlite3.DatabaseError("values of other kinds")  # SQLite itself takes any in any column
    return entries


def summary(ledger: Ledger) -> dict[str, Any]:
    """What was sent of which scan under which key, by the first digits of keyed digests; for people and JSON."""
    scans: dict[tuple[bytes, bytes], list[Entry]] = {}
    for entry in ledger.entries():
        scans.setdefault((entry.client, entry.content), []).append(entry)
    return {
        "scans": [
            {
                "key": key.hex()[:8] or "unknown",
                "scan": content.hex()[:8],
                "times": len(own),
                "views": sum(
                    max(e.requests for e in own if e.request == sent) for sent in dict.fromkeys(e.request for e in own)
                ),
                "last": own[-1].time,
                "server": own[-1].server,
                "bundle": own[-1].bundle,
                "mode": own[-1].mode,
            }
            for (key, content), own in scans.items()
        ],
        "references_used": len(ledger.spent()),
    }
