from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mixpriv.client.entry import EMBEDDED, Entry
from mixpriv.client.ledger import Ledger, ledger_path, summary
from mixpriv.errors import InputError, OutputError
from mixpriv.key import ClientKey
from mixpriv.reid.scan_hash import BITS, SAME_SCAN, distance, scan_hash
from mixpriv.wire.delivery import now


def entry(content: bytes = b"c" * 32) -> Entry:
    return Entry(now(), "host:8001", "toy 0.1.0", "mixup", 1, content, b"l" * 64)


FIRST_SCHEMA = """
CREATE TABLE sent (id INTEGER PRIMARY KEY, time TEXT NOT NULL, server TEXT NOT NULL, bundle TEXT NOT NULL,
                   mode TEXT NOT NULL, views INTEGER NOT NULL, content BLOB NOT NULL, likeness BLOB NOT NULL);
CREATE TABLE spent (reference TEXT PRIMARY KEY, time TEXT NOT NULL, content BLOB NOT NULL, slot INTEGER NOT NULL,
                    UNIQUE (content, slot));
INSERT INTO sent VALUES (1, '2026-01-01', 'host:8001', 'toy 0.1.0', 'mixup', 1, CAST(printf('%.32c', 'c') AS BLOB),
                         CAST(printf('%.64c', 'l') AS BLOB));
PRAGMA user_version = 1
"""


class TestRecord:
    def test_what_was_sent_is_kept_in_order(self) -> None:
        entries = [entry(bytes([n]) * 32) for n in range(3)]
        for one in entries:
            Ledger().enter(one)
        assert Ledger().entries() == entries
        assert ledger_path().parent.stat().st_mode & 0o777 == 0o700

    def test_nothing_sent_nothing_made(self) -> None:
        assert Ledger().entries() == []
        assert Ledger().spent() == set()
        assert not ledger_path().exists()

    def test_entries_stay(self) -> None:
        Ledger().enter(entry())
        with sqlite3.connect(ledger_path()) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute("DELETE FROM sent")
        db.close()


class TestRepeats:
    """A server that saw a scan is not shown another view of it, unless the user wants so."""

    ONE = replace(entry(), request=b"v", client=b"k")

    @pytest.mark.parametrize(
        ("second", "refused"),
        [
            ({}, False),
            ({"server": "other:1"}, False),
            ({"request": b"w"}, True),
            ({"requests": 2}, True),
            ({"server": EMBEDDED, "request": b"w"}, False),
            ({"content": b"d" * 32, "request": b"w"}, False),
        ],
    )
    def test_another_view(self, second: dict[str, object], refused: bool) -> None:
        Ledger().enter(self.ONE)
        again = replace(self.ONE, **second)
        if refused:
            with pytest.raises(InputError, match="another view would tell it more; give --allow-repeat"):
                Ledger().enter(again)
            assert Ledger().entries() == [self.ONE]
        assert Ledger().enter(again, allow_repeat=refused) == [self.ONE]

    def test_what_stayed_here_does_not_count(self) -> None:
        Ledger().enter(replace(self.ONE, server=EMBEDDED))
        Ledger().enter(replace(self.ONE, request=b"w"))

    def test_fewer_of_the_same_views_show_nothing_new(self) -> None:
        Ledger().enter(replace(self.ONE, requests=3))
        Ledger().enter(replace(self.ONE, requests=1))

    def test_too_many_at_once(self) -> None:
        many = replace(self.ONE, requests=5)
        with pytest.raises(InputError, match="references: expected at most 4 for a server, got 5"):
            Ledger().enter(many)
        Ledger().enter(replace(many, server=EMBEDDED))
        Ledger().enter(many, allow_repeat=True)

    def test_processes_at_once_cannot_both_be_first(self) -> None:
        code = (
            "import sys; from mixpriv.client.ledger import Entry, Ledger\nfrom mixpriv.wire.delivery import now\n"
            "Ledger().enter(Entry(now(), 'h:1', 'toy', 'mixup', 1, b'c', b'l', b'k', sys.argv[1].encode()))"
        )
        running = [subprocess.Popen([sys.executable, "-c", code, str(n)], stderr=subprocess.PIPE) for n in range(4)]
        errors = [process.communicate()[1] for process in running]
        assert sum(process.returncode == 0 for process in running) == 1
        assert sum(b"another view would tell it more" in error for error in errors) == 3

    SPREAD = (replace(ONE, domain="name:a address:1"), replace(ONE, request=b"v2", domain="name:b address:2"))

    def test_operators_that_are_trusted_apart_may_have_a_view_each(self) -> None:
        Ledger().enter(*self.SPREAD)
        Ledger().enter(*self.SPREAD)  # again
        Ledger().enter(replace(self.ONE, request=b"v3", domain="name:c address:3"))
        many = [replace(self.ONE, content=b"e" * 32, request=b"w%d" % n, domain=f"name:{n}") for n in range(20)]
        Ledger().enter(*many)

    @pytest.mark.parametrize("known", ["name:b address:9", "name:x address:2", "certificate:1 name:b"])
    def test_none_of_them_is_shown_two_whatever_it_is_known_by(self, known: str) -> None:
        Ledger().enter(*self.SPREAD)
        with pytest.raises(InputError, match="another view would tell it more"):
            Ledger().enter(replace(self.ONE, domain="name:c"), replace(self.ONE, request=b"v3", domain=known))
        assert Ledger().entries() == [*self.SPREAD]  # none of the two

    @pytest.mark.parametrize("request_sent", [b"v", b"v2", b"v3"])
    def test_servers_that_count_as_one_are_shown_nothing_of_what_was_spread(self, request_sent: bytes) -> None:
        """Also not a request that one operator had: it may be another's second."""
        Ledger().enter(*self.SPREAD)
        with pytest.raises(InputError, match="another view would tell it more"):
            Ledger().enter(replace(self.ONE, request=request_sent))

    def test_what_went_to_servers_that_count_as_one_counts_for_every_operator(self) -> None:
        Ledger().enter(self.ONE)
        Ledger().enter(self.SPREAD[0])  # the same bytes
        with pytest.raises(InputError, match="another view would tell it more"):
            Ledger().enter(*self.SPREAD)

    def test_a_ledger_of_the_second_schema_counts_as_one(self) -> None:
        ledger_path().parent.mkdir(parents=True)
        with sqlite3.connect(ledger_path()) as db:
            for statement in FIRST_SCHEMA.split(";\n"):
                db.execute(statement)
            for column in ("client", "view"):
                db.execute(f"ALTER TABLE sent ADD COLUMN {column} BLOB NOT NULL DEFAULT x''")
            db.execute("UPDATE sent SET client = x'6b', view = x'76'")
            db.execute("PRAGMA user_version = 2")
        db.close()
        (old,) = Ledger().entries()
        assert (old.client, old.request, old.domain) == (b"k", b"v", "")
        with pytest.raises(InputError, match="another view"):
            Ledger().enter(*(replace(one, content=old.content) for one in self.SPREAD))

    def test_a_ledger_of_before(self) -> None:
        """Entries of the first schema count: as the same view if mode and bundle are the same."""
        ledger_path().parent.mkdir(parents=True)
        with sqlite3.connect(ledger_path()) as db:
            for statement in FIRST_SCHEMA.split(";\n"):
                db.execute(statement)
        db.close()
        old = Entry("2026-01-01", "host:8001", "toy 0.1.0", "mixup", 1, b"c" * 32, b"l" * 64)
        assert Ledger().enter(self.ONE) == [old]
        with pytest.raises(InputError, match="another view"):
            Ledger().enter(replace(self.ONE, request=b"w", mode="none"))

    def test_summary(self) -> None:
        for one in (self.ONE, self.ONE, replace(self.ONE, content=b"d" * 32)):
            Ledger().enter(one)
        facts = summary(Ledger())
        assert [(scan["times"], scan["views"]) for scan in facts["scans"]] == [(2, 1), (1, 1)]
        assert facts["scans"][0]["key"] == b"k".hex()


class TestLoss:
    def test_a_lost_ledger_is_not_taken_for_a_new_one(self) -> None:
        Ledger().enter(entry())
        ledger_path().unlink()
        for call in (lambda: Ledger().enter(entry()), lambda: Ledger().spend(b"one", ["a"], 1)):
            with pytest.raises(InputError, match=r"ledger\.sqlite3: lost, though scans were sent before"):
                call()
        assert not ledger_path().exists()
        Ledger().begin()
        Ledger().enter(entry())
        with pytest.raises(InputError, match="exists; move it away first"):
            Ledger().begin()

    def test_nor_an_emptied_one(self) -> None:
        Ledger().enter(entry())
        ledger_path().write_bytes(b"")
        with pytest.raises(InputError, match=r"ledger\.sqlite3: lost, though scans were sent before"):
            Ledger().enter(entry(b"d" * 32))
        Ledger().begin()
        Ledger().enter(entry(b"d" * 32))

    def test_a_first_entry_that_is_refused_leaves_a_ledger(self) -> None:
        many = replace(entry(), requests=9)
        for _ in range(2):
            with pytest.raises(InputError, match="expected at most 4 for a server"):
                Ledger().enter(many)
        Ledger().enter(entry())

    def test_under_another_key_nothing_is_known(self) -> None:
        one = replace(entry(), request=b"v", client=b"k")
        Ledger().enter(one)
        other = replace(entry(b"d" * 32), request=b"w", client=b"l")
        with pytest.raises(InputError, match="client key: all that the ledger tells of was sent under another key"):
            Ledger().enter(other)
        Ledger().enter(replace(other, server=EMBEDDED))
        Ledger().enter(other, allow_repeat=True)
        Ledger().enter(replace(other, content=b"e" * 32))


class TestReferences:
    def test_each_is_used_once_and_the_same_scan_gets_the_same(self) -> None:
        names = ["a", "b", "c"]
        first = Ledger().spend(b"one", names, 1)
        assert Ledger().spend(b"one", names, 1) == first
        assert Ledger().spend(b"one", names, 2)[:1] == first
        assert set(Ledger().spend(b"two", names, 1)).isdisjoint(Ledger().spend(b"one", names, 2))
        assert Ledger().spent() == set(names)

    def test_too_few(self) -> None:
        Ledger().spend(b"one", ["a", "b"], 1)
        with pytest.raises(InputError, match="expected 2 unused references for this scan, got 1"):
            Ledger().spend(b"two", ["a", "b"], 2)
        assert Ledger().spent() == {"a"}

    def test_processes_at_once_share_none(self) -> None:
        code = (
            "import sys; from mixpriv.client.ledger import Ledger\n"
            "print(Ledger().spend(sys.argv[1].encode(), [str(n) for n in range(20)], 4))"
        )
        running = [
            subprocess.Popen([sys.executable, "-c", code, str(n)], stdout=subprocess.PIPE, text=True) for n in range(4)
        ]
        taken = [name for process in running for name in eval(process.communicate()[0])]
        assert len(set(taken)) == 16


class TestDamage:
    @pytest.mark.parametrize(
        "content", [b"no database, but long enough to look like one " * 100, b"SQLite format 3\0" * 64]
    )
    def test_a_damaged_ledger_is_named_and_left_alone(self, content: bytes) -> None:
        ledger_path().parent.mkdir(parents=True)
        ledger_path().write_bytes(content)
        for call in (Ledger().entries, Ledger().spent, lambda: Ledger().enter(entry())):
            with pytest.raises(InputError, match=r"ledger\.sqlite3: damaged, or not a mixpriv ledger; move it away"):
                call()
        assert ledger_path().read_bytes() == content

    def test_another_database(self) -> None:
        ledger_path().parent.mkdir(parents=True)
        with sqlite3.connect(ledger_path()) as db:
            db.execute("CREATE TABLE other (x)")
        db.close()
        with pytest.raises(InputError, match="expected a mixpriv ledger of schema 3, got another file"):
            Ledger().entries()

    def test_no_place_for_it(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(OutputError, match="folder: ledger cannot be used"):
            Ledger(tmp_path / "folder").enter(entry())


class TestLikeness:
    KEY = ClientKey(bytes(32))

    def brain(self, seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        field = ndimage.gaussian_filter(random.standard_normal((64, 80, 64)), 2.0)
        return (np.clip(0.5 + 4 * field, 0.01, 1)).astype(np.float16)

    def test_copies_are_alike_and_others_are_not(self) -> None:
        brain = self.brain(0)
        noisy = (brain + np.random.default_rng(1).normal(0, 0.05, brain.shape)).astype(np.float16)
        bits = scan_hash(brain, 3.0, self.KEY)
        assert distance(bits, bits) == 0
        assert distance(bits, scan_hash(noisy, 3.0, self.KEY)) < SAME_SCAN / 2
        assert distance(bits, scan_hash(self.brain(2), 3.0, self.KEY)) > 2 * SAME_SCAN

    def test_another_key_gives_unrelated_bits(self) -> None:
        brain = self.brain(0)
        other = scan_hash(brain, 3.0, ClientKey(bytes(range(32))))
        assert abs(distance(scan_hash(brain, 3.0, self.KEY), other) - 0.5) < 0.1
        assert len(other) * 8 == BITS
