from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from mixpriv.errors import ServerUnavailableError
from mixpriv.server import workspace as workspace_module
from mixpriv.server.workspace import Workspace

LONG_AGO = (0.0, 0.0)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mixpriv.server.workspace._PLAIN", re.compile(".*"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


class TestBase:
    @pytest.mark.parametrize(
        "name",
        [*("a,b", "per%20cent", "hash#x", "quest?x", "ümlaut", "semi;x", "quo'te", 'quo"te', "with space", "d$HOME"),
        *("a&b", "back\\slash", "line\nend", "brace{x}", "glob*", "c:d", "long" * 30)],
    )  # fmt: skip
    def test_with_an_odd_path_is_not_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        with Workspace() as workspace:
            assert workspace.folder.parent == Path("/tmp")
        assert list((tmp_path / name).iterdir()) == []

    def test_is_the_next_that_can_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workspace_module, "_PLAIN", re.compile(".*"))
        monkeypatch.setattr(workspace_module, "_ELSEWHERE", (str(tmp_path / "missing"), str(tmp_path)))
        monkeypatch.setenv("TMPDIR", "/proc")
        with Workspace() as workspace:
            assert workspace.folder.parent == tmp_path

    def test_none_is_said_in_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workspace_module, "_ELSEWHERE", ("/proc",))
        monkeypatch.setenv("TMPDIR", "/none/\x1b[31m")
        with pytest.raises(ServerUnavailableError, match=r"^no temporary folder .* /none/ \[31m, /proc: set TMPDIR"):
            Workspace().__enter__()


class TestWorkspace:
    def test_is_private_and_goes(self, base: Path) -> None:
        with Workspace() as workspace:
            assert workspace.folder.parent == base
            assert workspace.folder.stat().st_mode & 0o777 == 0o700
        assert list(base.iterdir()) == []

    def test_shared_memory_must_be_private_and_goes(self, base: Path) -> None:
        with Workspace() as workspace:
            region = Path("/dev/shm", f"{workspace.regions}x")
            region.touch(0o600)
            workspace.check_private()
            region.chmod(0o640)
            with pytest.raises(ServerUnavailableError, match="can be read by other users"):
                workspace.check_private()
        assert not region.exists()

    def test_a_link_of_somebody_in_the_temporary_folder_matters_not(self, base: Path) -> None:
        (base / "python_env_x").symlink_to(base / "nothing")
        (base / "mixpriv-1-abcd_789").symlink_to(base / "nothing")
        with Workspace():
            pass
        assert len(list(base.iterdir())) == 2

    def test_a_folder_that_went_meanwhile_matters_not(self, base: Path) -> None:
        with Workspace() as workspace:
            shutil.rmtree(workspace.folder)

    @pytest.mark.parametrize("left", [(), (".mixpriv-workspace",), (".mixpriv-workspace", "models/m")])
    def test_removes_what_was_half_made_or_half_removed(self, base: Path, left: tuple[str, ...]) -> None:
        folder = base / "mixpriv-1-abcd_789"
        folder.mkdir()
        for name in left:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        os.utime(folder, LONG_AGO)
        with Workspace():
            assert not folder.exists()

    def test_keeps_its_mark_until_the_last(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Killed while it is removed, it is still known to be ours."""

        def die(path: Path, *, ignore_errors: bool) -> None:
            raise KeyboardInterrupt

        workspace = Workspace().__enter__()
        (workspace.folder / "models").mkdir()
        (workspace.folder / "server.log").touch()
        monkeypatch.setattr(workspace_module.shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            workspace.__exit__(None, None, None)
        monkeypatch.undo()
        assert (workspace.folder / ".mixpriv-workspace").exists()
        os.close(workspace._lock or 0)
        shutil.rmtree(workspace.folder)

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
