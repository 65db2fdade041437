"""Files on file systems with and without hard links, nameless files and renameat2: whole, never over another."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mixpriv import newfile
from mixpriv.atomic import write_files, write_outputs
from mixpriv.errors import InputError, OutputError
from mixpriv.newfile import try_to_write


def refused(*arguments: Any, **options: Any) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["all", "links", "links but none of nameless files", "renames", "nothing"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems by what they can: ext4, NFS, (nameless files, but no links), exFAT, exFAT by FUSE."""
    if request.param in ("links", "renames", "nothing"):
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    if request.param not in ("all", "links"):
        monkeypatch.setattr(os, "link", refused)
    if request.param == "nothing":
        monkeypatch.setattr(newfile, "_rename_new", refused)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("system")
class TestEveryFileSystem:
    @pytest.mark.parametrize("replace", [True, False])
    def test_files_are_whole_and_alone(self, replace: bool, tmp_path: Path) -> None:
        write_files({tmp_path / "a": b"one", tmp_path / "b": b"two"}, mode=0o600, replace=replace)
        assert names(tmp_path) == ["a", "b"]
        assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"one", b"two")
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}

    def test_what_is_there_is_kept_and_what_belongs_to_it_not_written(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_bytes(b"mine")
        with pytest.raises(InputError, match="b: output exists; give --force to overwrite it"):
            write_outputs({tmp_path / "a": b"one", tmp_path / "b": b"two"}, force=False)
        assert names(tmp_path) == ["b"]
        assert (tmp_path / "b").read_bytes() == b"mine"

    def test_what_is_there_is_replaced_if_wanted(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"mine")
        write_outputs({tmp_path / "a": b"one"}, force=True)
        assert names(tmp_path) == ["a"]
        assert (tmp_path / "a").read_bytes() == b"one"

    def test_an_interruption_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name, named = newfile.NewFile.name, []

        def interrupted(self: newfile.NewFile, *, replace: bool) -> None:
            name(self, replace=replace)
            named.append(self.path)
            if len(named) == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(newfile.NewFile, "name", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_files({tmp_path / "a": b"one", tmp_path / "b": b"two"}, replace=False)
        assert named == [tmp_path / "a", tmp_path / "b"]
        assert names(tmp_path) == []

    def test_trying_leaves_nothing(self, tmp_path: Path) -> None:
        try_to_write(tmp_path)
        assert names(tmp_path) == []


def test_another_users_file_is_not_taken_back(tmp_path: Path) -> None:
    with newfile.NewFile(tmp_path / "a", b"one", 0o600) as new:
        new.name(replace=False)
        (tmp_path / "other").write_bytes(b"mine")
        (tmp_path / "other").replace(tmp_path / "a")
        new.unname()
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_a_folder_that_takes_none(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"none/a: cannot be written \(No such file or directory\)"):
        write_files({tmp_path / "none" / "a": b"one"})
