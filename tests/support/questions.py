"""Where code asks which protection mode it is, however that is written."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping

from mixpriv.protection import modes
from tests.support.imports import imported

CLASSES = {name for name, one in vars(modes).items() if hasattr(one, "requests") and name != "Mode"}
NAMES = set(modes.NAMES)
_OF_TEXT = {"startswith", "endswith", "removeprefix", "index", "find", "count", "fullmatch", "match"}


def constants(of: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Names in each module that are a mode, its class or its name, or hold such: its own and imported ones."""
    own = {name: set(_own_constants(tree)) for name, tree in of.items()}
    taken = {name: {one.rpartition(".")[::2] for one in imported(tree)} for name, tree in of.items()}
    return {
        name: own[name] | {constant for module, constant in taken[name] if constant in own.get(module, ())}
        for name in of
    }


def _own_constants(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield from _told(target, statement.value)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield from _told(statement.target, statement.value)


def _told(target: ast.expr, value: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from _told(one, its)
    elif isinstance(target, ast.Name) and _tells_mode(value, ()):
        yield target.id


def questions(tree: ast.Module, known: Collection[str] = ()) -> Iterator[str]:
    """Each place where the code asks, with its line; `known` are the names of constants that are modes."""
    for node in ast.walk(tree):
        if _asks(node, known):
            yield f"{getattr(node, 'lineno', 0)}: {ast.unparse(node)[:100]}"


def _asks(node: ast.AST, known: Collection[str]) -> bool:
    match node:
        case ast.Compare():
            return any(_tells_mode(side, known) for side in (node.left, *node.comparators))
        case ast.Call(func=ast.Name(id="isinstance" | "issubclass" | "getattr" | "hasattr"), args=[_, what, *_]):
            return _tells_mode(what, known)
        case ast.Call(func=ast.Attribute(attr=method), args=arguments) if method in _OF_TEXT:
            return any(_tells_mode(one, known) for one in arguments)
        case ast.Dict():  # a table of what is to be done in which mode; one that makes modes of names is none
            pairs = zip(node.keys, node.values, strict=True)
            named = [value for key, value in pairs if key is not None and _tells_mode(key, known)]
            return len(named) > 1 and not all(_makes_mode(value, known) for value in named)
        case ast.MatchValue(value=value):
            return _tells_mode(value, known)
        case ast.MatchClass(cls=cls):
            return _tells_mode(cls, known)
    return False


def _tells_mode(node: ast.AST, known: Collection[str]) -> bool:
    match node:
        case ast.Constant(value=str() as text):
            return text in NAMES
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in CLASSES or name in known
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            return any(_tells_mode(one, known) for one in elements)
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name in CLASSES
        case ast.BinOp(op=ast.BitOr()):  # isinstance(mode, Mixup | Shielded)
            return _tells_mode(node.left, known) or _tells_mode(node.right, known)
    return False


def _makes_mode(node: ast.AST, known: Collection[str]) -> bool:
    return not isinstance(node, ast.Constant) and _tells_mode(node, known)
