"""What may import what: the folder shows the trust boundary."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mixpriv

PACKAGE = Path(mixpriv.__file__).parent
SERVER_SIDE = ("wire", "server", "engine")
TRAINING_ONLY = ("torch", "monai", "onnx", "mixpriv.training", "mixpriv.export")


def imports_of(path: Path) -> set[str]:
    """All modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files_in(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((PACKAGE / folder).rglob("*.py"))]


def names(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", files_in(*SERVER_SIDE), ids=names)
def test_what_talks_to_the_network_knows_no_secrets(path: Path) -> None:
    assert not {name for name in imports_of(path) if name.startswith(("mixpriv.client.", "mixpriv.cli."))}


@pytest.mark.parametrize("path", files_in("client"), ids=names)
def test_the_client_needs_no_server_and_no_training(path: Path) -> None:
    forbidden = ("mixpriv.server.", "mixpriv.cli.", *TRAINING_ONLY)
    assert not {name for name in imports_of(path) if name.startswith(forbidden)}


def test_no_torch_at_run_time() -> None:
    modules = [f"mixpriv.client.{path.stem}" for path in files_in("client") if path.stem != "__init__"]
    modules.append("mixpriv.cli.client.segment")
    code = f"import sys, {', '.join(modules)}; print([m for m in {TRAINING_ONLY} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
