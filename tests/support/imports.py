"""Which module of the package imports which, read from the source."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import mixpriv

PACKAGE = Path(mixpriv.__file__).parent


def modules() -> dict[str, ast.Module]:
    """All modules by name, also those of `mixpriv.export`, whose folder lies elsewhere."""
    export = importlib.util.find_spec("mixpriv.export")
    assert export is not None
    assert export.submodule_search_locations is not None
    (elsewhere,) = export.submodule_search_locations
    found = {}
    for package, folder in (("mixpriv", PACKAGE), ("mixpriv.export", Path(elsewhere))):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])
            found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imported(module: ast.AST, *, types: bool = True) -> set[str]:
    """All that a module imports, anywhere in it, with the name that is taken; without `types` only what runs."""
    found = set()
    for node in _walk(module, types=types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _walk(node: ast.AST, *, types: bool) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if types or not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield from _walk(child, types=types)


def graph(of: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Which modules each module imports when it runs, at its head or later."""
    edges = {}
    for name, module in of.items():
        taken = imported(module, types=False)
        edges[name] = {one if one in of else one.rpartition(".")[0] for one in taken} & of.keys() - {name}
    return edges


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """Modules each of which imports the next, and the last the first; empty if there are none."""
    done: set[str] = set()

    def search(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        for other in sorted(edges[name]):
            found = search(other, [*way, name])
            if found:
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := search(name, []))), [])
