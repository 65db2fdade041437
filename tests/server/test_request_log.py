"""The chained log of a front: what is in a record, and that no line changes or goes unnoticed."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mixpriv.cli.server.main import main
from mixpriv.errors import InputError, OutputError
from mixpriv.server.request_log import RequestLog, event, records_of, verify

CALL = {
    "time": "2026-01-01T00:00:00.000Z",
    "site": "mixpriv://site/hospital-a",
    "serial": "ab",
    "address": "192.0.2.1",
    "call": "/inference.GRPCInferenceService/ModelInfer",
    "model": "toy",
    "bytes_in": 10,
    "bytes_out": 20,
    "outcome": "OK",
    "flags": "-",
    "ms": 5,
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of six records, written in two runs."""
    path = tmp_path / "log"
    for names in ("abc", "def"):
        with RequestLog(path) as log:
            log.add(event(name) for name in names)
    return path


def record(**facts: object) -> dict[str, object]:
    (found,) = records_of([json.dumps(CALL | facts)])
    return found


class TestRecord:
    def test_tells_who_when_how_much_and_how_it_ended(self) -> None:
        assert record() == {
            **{key: CALL[key] for key in ("time", "serial", "address", "model", "bytes_in", "bytes_out", "ms")},
            "event": "call",
            "site": "hospital-a",
            "call": "ModelInfer",
            "outcome": "ok",
        }

    @pytest.mark.parametrize(
        ("facts", "outcome"),
        [
            ({"flags": "RL", "outcome": "UNAVAILABLE"}, "over quota"),
            ({"flags": "UO", "outcome": "UNAVAILABLE"}, "over quota"),
            ({"flags": "DC", "outcome": None}, "broken off"),
            ({"outcome": "INVALID_ARGUMENT"}, "invalid argument"),
        ],
    )
    def test_outcomes(self, facts: dict[str, object], outcome: str) -> None:
        assert record(**facts)["outcome"] == outcome

    def test_of_a_connection_only_when_it_was_refused(self) -> None:
        who = {key: CALL[key] for key in ("time", "site", "serial", "address")}
        reason = "TLS_error:|268435581:SSL_routines:verify_failed:_certificate_revoked:TLS_error_end"
        lines = [json.dumps(who | {"refused": refused}) for refused in (None, reason)]
        (found,) = records_of(lines)
        assert (found["event"], found["site"], found["reason"]) == ("refused", "hospital-a", "certificate revoked")

    @pytest.mark.parametrize("line", ["{", "3", "[]", "null", '{"time": 1}', json.dumps(CALL | {"site": 3})])
    def test_of_a_line_that_is_none(self, line: str) -> None:
        """The thread that writes the log must not end by it: no call would be logged any more."""
        found = list(records_of([line, json.dumps(CALL)]))
        assert [one["event"] for one in found] == ["unreadable", "call"]


class TestVerify:
    def test_a_whole_log(self, log: Path) -> None:
        head, findings = verify(log)
        assert (head.count, findings) == (6, [])
        assert verify(log, noted=head.hash)[1] == []

    @pytest.mark.parametrize(
        ("change", "finding"),
        [
            (lambda lines: [*lines[:2], lines[2].replace(b'"c"', b'"x"'), *lines[3:]], "line 3 .* was changed"),
            (lambda lines: [*lines[:2], *lines[3:]], "line 3: record 4 follows record 2"),
            (lambda lines: lines[1:], "line 1: record 2 follows record 0"),
            (lambda lines: lines[:-1], "lines 6 to 6, the last ones, are missing"),
            (lambda lines: [], "lines 1 to 6"),
            (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1: record 2 follows record 0"),
            (lambda lines: [*lines, lines[-1]], "record 6 follows record 6"),
            (lambda lines: [*lines[:5], lines[5][:-10]], "line 6 is damaged"),
            (lambda lines: [*lines[:1], b"\xff\n", *lines[1:]], "line 2 is damaged"),
        ],
    )
    def test_finds(self, log: Path, change: Callable[[list[bytes]], list[bytes]], finding: str) -> None:
        log.write_bytes(b"".join(change(log.read_bytes().splitlines(keepends=True))))
        _, findings = verify(log)
        assert any(re.search(finding, found) for found in findings), findings

    def test_a_log_that_was_made_anew_by_a_hash_that_was_kept(self, log: Path, tmp_path: Path) -> None:
        noted = verify(log)[0].hash
        for path in (log, tmp_path / "log.head"):
            path.unlink()
        with RequestLog(log) as forged:
            forged.add(event(name) for name in "abcdef")
        assert verify(log)[1] == []
        assert verify(log, noted)[1] == [f"no line has the hash {noted}"]

    def test_every_byte_counts(self, log: Path) -> None:
        whole = log.read_bytes()
        for at in range(0, len(whole), 7):
            log.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert verify(log)[1], at

    def test_command(self, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["verify-log", str(log)]) == 0
        assert "6 records" in capsys.readouterr().out
        log.write_bytes(log.read_bytes().replace(b'"b"', b'"x"'))
        assert main(["verify-log", str(log)]) == 2
        assert "line 2 (record 2), or the one before it, was changed" in capsys.readouterr().err
        assert main(["verify-log", str(log.with_name("none"))]) == 2


class TestWriting:
    def test_goes_on_after_a_torn_line_and_keeps_its_trace(self, log: Path) -> None:
        log.write_bytes(log.read_bytes()[:-5])
        with RequestLog(log) as again:
            again.add([event("g")])
        head, findings = verify(log)
        assert head.count == 7
        assert "line 6 is damaged" in findings

    def test_is_private_and_one_process_only(self, log: Path) -> None:
        assert (log.stat().st_mode & 0o777, log.with_name("log.head").stat().st_mode & 0o777) == (0o600, 0o600)
        with RequestLog(log), pytest.raises(InputError, match="another server writes this log"), RequestLog(log):
            pass

    def test_leaves_nothing_of_a_line_on_a_full_disk(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write = os.write
        with RequestLog(log) as full:
            monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:9]))
            with pytest.raises(OutputError, match=r"cannot be written .No space left"):
                full.add([event("g")])
            monkeypatch.undo()
            full.add([event("g")])
        assert verify(log)[1] == []

    def test_is_free_again_where_it_could_not_be_taken_up(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that is started again in the same process, once the disk has room."""

        def full(descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        log.write_bytes(log.read_bytes()[:-5])
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OutputError, match=r"cannot be written .No space left"), RequestLog(log):
            pass
        monkeypatch.undo()
        with RequestLog(log) as again:
            again.add([event("g")])
        assert verify(log)[0].count == 7

    def test_follows_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OutputError, match="cannot be written"), RequestLog(tmp_path / "link"):
            pass
