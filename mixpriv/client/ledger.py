"""The local ledger: what was sent of which scan, and which references are spent.

Append-only, in one SQLite file of the user's data folder. It holds keyed digests, never voxels, names, references or
weights. A damaged ledger stops every command that needs it, because without it no reference can be shown to be
unused; a lost one starts empty.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from mixpriv.client.files import data_folder, private_folder
from mixpriv.errors import InputError, OutputError

EMBEDDED = "embedded"
"""Server name of an entry whose proxy never left this machine."""

_SCHEMA = 1
_CREATE = """
CREATE TABLE sent (id INTEGER PRIMARY KEY, time TEXT NOT NULL, server TEXT NOT NULL, bundle TEXT NOT NULL,
                   mode TEXT NOT NULL, views INTEGER NOT NULL, content BLOB NOT NULL, likeness BLOB NOT NULL);
CREATE TABLE spent (reference TEXT PRIMARY KEY, time TEXT NOT NULL, content BLOB NOT NULL, slot INTEGER NOT NULL,
                    UNIQUE (content, slot));
CREATE TRIGGER sent_stays BEFORE DELETE ON sent BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER spent_stays BEFORE DELETE ON spent BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""


@dataclass(frozen=True)
class Entry:
    """One scan sent: when (UTC, ISO 8601), to which server, how, and keyed digests of what."""

    time: str
    server: str
    bundle: str
    mode: str
    views: int
    content: bytes
    likeness: bytes


def ledger_path() -> Path:
    """Where this user's ledger is kept."""
    return data_folder() / "ledger.sqlite3"


def now() -> str:
    """Tell the time for an entry: UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Ledger:
    """The ledger file; every call is one transaction, so several processes may use it at once.

    Every method raises `InputError` when the file is damaged or no ledger, and `OutputError` when it cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or ledger_path()

    def record(self, entry: Entry) -> None:
        """Note that a scan is about to be sent."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO sent (time, server, bundle, mode, views, content, likeness) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (entry.time, entry.server, entry.bundle, entry.mode, entry.views, entry.content, entry.likeness),
            )

    def entries(self) -> list[Entry]:
        """All that was sent, oldest first."""
        if not self.path.exists():
            return []
        with self._transaction() as db:
            rows = db.execute("SELECT time, server, bundle, mode, views, content, likeness FROM sent ORDER BY id")
            return [Entry(*row) for row in rows]

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
        if not self.path.exists():
            return set()
        with self._transaction() as db:
            return {r for (r,) in db.execute("SELECT reference FROM spent")}

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        private_folder(self.path.parent)
        try:
            with closing(sqlite3.connect(self.path, timeout=30.0, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                self._check_schema(db)
                yield db
                db.execute("COMMIT")  # left out on any error: closing then rolls back
        except sqlite3.OperationalError as error:
            raise OutputError(f"{self.path}: ledger cannot be used ({error})") from None
        except sqlite3.DatabaseError:
            raise InputError(
                f"{self.path}: damaged, or not a mixpriv ledger; move it away to start a new one (its counts are lost)"
            ) from None

    def _check_schema(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            for statement in _CREATE.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_SCHEMA}")
        elif version != _SCHEMA:
            raise InputError(f"{self.path}: expected a mixpriv ledger of schema {_SCHEMA}, got another file")
