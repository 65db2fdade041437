"""How many threads a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mixpriv import threads
from mixpriv.errors import InputError
from mixpriv.threads import available_threads, cpu_quota


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1 = "11:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"


class TestQuota:
    @pytest.mark.parametrize(
        ("own", "files", "quota"),
        [
            ("0::/\n", {}, None),
            ("0::/\n", {"cpu.max": "max 100000\n"}, None),
            ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
            ("0::/\n", {"cpu.max": "nonsense\n"}, None),
            ("0::/a/b\n", {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "400000 100000\n"}, 1.0),
            ("0::/not/mounted\n", {"cpu.max": "50000 100000\n"}, 0.5),
            (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
            (V1, {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.5),
            (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "300000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, 3.0),
        ],
    )
    def test_is_the_least_of_the_groups(
        self, tmp_path: Path, own: str, files: dict[str, str], quota: float | None
    ) -> None:
        cgroups = write(tmp_path / "cgroup", files)
        (tmp_path / "own").write_text(own)
        assert cpu_quota(cgroups, tmp_path / "own") == quota

    def test_no_control_groups(self, tmp_path: Path) -> None:
        assert cpu_quota(tmp_path, tmp_path / "missing") is None


class TestAvailableThreads:
    @pytest.mark.parametrize(
        ("affinity", "quota", "wanted", "expected"),
        [(8, None, "", 8), (8, 2.5, "", 3), (2, 64.0, "", 2), (8, 0.1, "", 1), (8, None, "3", 3), (4, 2.0, "16", 2)],
    )
    def test_is_the_least_limit(
        self, monkeypatch: pytest.MonkeyPatch, affinity: int, quota: float | None, wanted: str, expected: int
    ) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(affinity)), raising=False)
        monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
        monkeypatch.setenv("MIXPRIV_THREADS", wanted)
        assert available_threads() == expected

    @pytest.mark.parametrize("wanted", ["0", "-1", "two", "1.5"])
    def test_refuses_what_is_no_count(self, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
        monkeypatch.setenv("MIXPRIV_THREADS", wanted)
        with pytest.raises(InputError, match=rf"^MIXPRIV_THREADS: expected a whole number from 1, got '{wanted}'$"):
            available_threads()
