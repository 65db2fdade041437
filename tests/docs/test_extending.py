"""What docs/extending.md tells a new user to do, done: its files, its package and its command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
MOST_LINES = 60

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the documents are not beside these tests")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page as pip installs it: modules, and metadata beside them."""
    text = PAGE.read_text(encoding="utf-8")
    attack, protection = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (settings,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    folder = tmp_path_factory.mktemp("package")
    for name, code in (("my_attack", attack), ("my_protection", protection)):
        assert len(code.splitlines()) < MOST_LINES
        (folder / f"{name}.py").write_text(code)
    points = re.findall(r'\[project\.entry-points\."(.*?)"\]\n(\w+) = "(.*?)"', settings)
    metadata = folder / "my_audit-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-audit\nVersion: 1.0\n")
    lines = [f"[{group}]\n{name} = {target}\n" for group, name, target in points]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    assert len(points) == 2
    return folder


def audit(package: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mixpriv.cli.research.main", "audit", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_command_of_the_page(package: Path, tmp_path: Path) -> None:
    (command,) = re.findall(r"^mixpriv audit (--phantoms .*) -o first-look$", PAGE.read_text(), re.MULTILINE)
    done = audit(package, *command.split(), "-o", tmp_path / "first-look")
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "first-look" / "audit.md").read_text()
    assert re.search(r"\| blurred \| singling out \| A1, X1 \| .*rank-1", report)
    assert "X1: Linkage after sharpening" in (tmp_path / "first-look" / "audit.html").read_text()
    assert {path.name for path in (tmp_path / "first-look").iterdir()} == {"audit.html", "audit.md", "audit.csv"}


def test_what_is_broken_is_named_in_a_line(package: Path, tmp_path: Path) -> None:
    points = package / "my_audit-1.0.dist-info" / "entry_points.txt"
    whole = points.read_text()
    try:
        points.write_text(whole + "[mixpriv.protections]\nbroken = my_protection:Nothing\n".replace("[", "\n[", 1))
        points.write_text(whole.replace("my_attack", "my_absent"))
        done = audit(package, "--phantoms", "--quick", "-o", tmp_path / "x")
    finally:
        points.write_text(whole)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "mixpriv.attacks sharpened: cannot be loaded (ModuleNotFoundError" in done.stderr
    assert not (tmp_path / "x").exists()
