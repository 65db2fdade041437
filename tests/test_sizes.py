"""No function grows beyond what a reader keeps in mind."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mixpriv

MOST_LINES = 60
MOST_POSITIONAL = 6

PACKAGE = Path(mixpriv.__file__).parent
FOLDERS = [folder for folder in (PACKAGE, PACKAGE.parent / "export") if (folder / "__init__.py").is_file()]
MODULES = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py"))]


def names(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def functions_of(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def positional(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many arguments a caller may give by their place."""
    found = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len(found) - (found[:1] in (["self"], ["cls"]))


@pytest.mark.parametrize("path", MODULES, ids=names)
def test_functions_are_short(path: Path) -> None:
    lengths = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions_of(path)}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize("path", MODULES, ids=names)
def test_functions_take_few_arguments_by_place(path: Path) -> None:
    counts = {f.name: positional(f) for f in functions_of(path)}
    assert {name: count for name, count in counts.items() if count > MOST_POSITIONAL} == {}


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 100
