from __future__ import annotations

import os
from pathlib import Path

import pytest

from mixpriv.server.workspace import Workspace

LONG_AGO = (0.0, 0.0)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mixpriv.server.workspace._LONGEST_BASE", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


class TestWorkspace:
    def test_is_private_and_goes(self, base: Path) -> None:
        with Workspace() as workspace:
            assert workspace.folder.parent == base
            assert workspace.folder.stat().st_mode & 0o777 == 0o700
        assert list(base.iterdir()) == []

    def test_shared_memory_is_hidden_and_goes(self, base: Path) -> None:
        with Workspace() as workspace:
            region = Path("/dev/shm", f"{workspace.regions}x")
            region.touch(0o644)
            workspace.settle()
            assert region.stat().st_mode & 0o777 == 0o600
        assert not region.exists()

    def test_folders_of_the_backend_go_if_empty(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mixpriv.server.workspace._TEMPORARY", base)
        old, new, used = (base / f"python_env_{name}" for name in ("old", "new", "used"))
        old.mkdir()
        with Workspace() as workspace:
            new.mkdir()
            (used / "bin").mkdir(parents=True)
            workspace.settle()
        assert set(base.iterdir()) == {old, used}

    def test_folders_of_a_backend_that_never_was_ready_go(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mixpriv.server.workspace._TEMPORARY", base)
        with Workspace():
            (base / "python_env_new").mkdir()
        assert list(base.iterdir()) == []

    def test_removes_what_a_killed_process_left(self, base: Path) -> None:
        with Workspace() as killed:
            name = killed.folder.name
        left = base / name / "models"
        left.mkdir(parents=True)
        (left.parent / ".mixpriv-workspace").touch()
        os.utime(left.parent, LONG_AGO)
        region = Path("/dev/shm", f"{left.parent.name}-x")
        region.touch()
        with Workspace():
            assert not left.parent.exists()
            assert not region.exists()

    def test_spares_what_is_in_use_or_young(self, base: Path) -> None:
        young = base / "mixpriv-1-abcd_789"
        young.mkdir()
        (young / ".mixpriv-workspace").touch()
        with Workspace() as used:
            os.utime(used.folder, LONG_AGO)
            with Workspace():
                assert used.folder.exists()
                assert young.exists()

    @pytest.mark.parametrize("name", ["mixpriv-results", "mixpriv-main", "mixpriv-1-abcd_789"])
    def test_spares_what_is_the_users_own(self, base: Path, name: str) -> None:
        own = base / name / "audit.csv"
        own.parent.mkdir()
        own.write_text("mine")
        os.utime(own.parent, LONG_AGO)
        with Workspace():
            pass
        assert own.read_text() == "mine"
