"""Files that somebody else made: no more is read than they may hold, and nothing but regular files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mixpriv.errors import InputError, printable
from mixpriv.reading import read_file, read_json, require_own_files


class TestFile:
    def test_is_read_whole(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"12345")
        assert read_file(tmp_path / "f", 5) == b"12345"

    def test_that_is_larger_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"123456")
        with pytest.raises(InputError, match="f: expected at most 5 bytes, got 6"):
            read_file(tmp_path / "f", 5)

    def test_that_says_another_size_is_refused(self) -> None:
        with pytest.raises(InputError, match="expected 0 bytes, as its folder says, got more or fewer"):
            read_file("/proc/self/status", 5)

    def test_that_is_a_pipe_is_refused_at_once(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "f")
        with pytest.raises(InputError, match="f: expected a regular file"):
            read_file(tmp_path / "f", 5)

    @pytest.mark.parametrize("name", ["/dev/zero", "/"])
    def test_that_is_none_is_refused(self, name: str) -> None:
        with pytest.raises(InputError, match="expected a regular file"):
            read_file(name, 5)

    @pytest.mark.parametrize(
        ("name", "message"), [("absent", "no such file"), ("a\0b", "cannot be read"), ("x" * 300, "cannot be read")]
    )
    def test_that_is_missing_is_named(self, name: str, message: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=message):
            read_file(tmp_path / name, 5)


class TestFolder:
    def test_links_inside_are_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"")
        (tmp_path / "b").symlink_to("a")
        require_own_files(tmp_path, ["a", "b", "missing"])

    @pytest.mark.parametrize("target", ["/etc/passwd", "../other", "/dev/zero", "b", "nowhere"])
    def test_links_elsewhere_are_refused(self, target: str, tmp_path: Path) -> None:
        (tmp_path / "other").write_bytes(b"")
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "b").symlink_to(target)
        with pytest.raises(InputError, match="b: expected a regular file inside the folder"):
            require_own_files(folder, ["b"])


BAD_JSON = [
    (b"", "not readable as JSON"),
    (b"{", "not readable as JSON"),
    (b"\xff\xfe", "not readable as JSON"),
    (b"[" * 100_000 + b"]" * 100_000, "nested more than 32 deep"),
    (b'{"a":' * 90_000 + b"1" + b"}" * 90_000, "nested more than 32 deep"),
    (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
    (b'{"b": [{"a\\u001b": 1, "a\\u001b": 2}]}', r"the key 'a\\\\x1b' stands twice"),
    (b'{"a": {"b": NaN}}', r"a\.b: expected a finite number, got nan"),
    (b'{"a": [1, -Infinity]}', "a: expected a finite number, got -inf"),
    (b'{"a": 1e999}', "a: expected a finite number, got inf"),
    (b'{"a": "x\\u001b[2Jy"}', "a: expected text on one line, got"),
    (b'{"a": "x\\ny"}', "a: expected text on one line, got"),
    (b'{"\\ud800": 1}', "expected text on one line, got"),
    (b'{"a": "\\u202e"}', "a: expected text on one line, got"),
    (b'{"a": 1' + b"0" * 5000 + b"}", "not readable as JSON"),
    (b'"' + b'\\"' * 100_000, "not readable as JSON"),
    (b'{"a": "' + b"x" * 30_000 + b'"}', "a: expected text on one line"),
]


class TestJson:
    def test_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text('{"a": ["[[{\\"", 1.5, null, "ü"]}', encoding="utf-8")
        assert read_json(tmp_path / "f", 100) == {"a": ['[[{"', 1.5, None, "ü"]}

    @pytest.mark.parametrize(("data", "message"), BAD_JSON, ids=range(len(BAD_JSON)))
    def test_that_is_none_is_refused_in_one_line(self, data: bytes, message: str, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(data)
        with pytest.raises(InputError, match=f"^{tmp_path}/f: .*{message}") as found:
            read_json(tmp_path / "f", 2**20)
        assert str(found.value).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Gehirn ü 脳", "Gehirn ü 脳"),
        ("a\x1b[2J\n\t\u202e\x00", r"a\x1b[2J\n\t\u202e\x00"),
        ("\ud800", r"\ud800"),
        ("x" * 300, "x" * 200 + "..."),
        ("\x07" * 60, (r"\x07" * 60)[:200] + "..."),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
