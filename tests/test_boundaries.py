"""What may import what: the folders show the layers and the trust boundary. And that a mode is asked, never guessed."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.support.imports import circle, graph, imported, modules
from tests.support.questions import constants, questions

MODULES = modules()
SECRET = ("imaging", "reid", "protection", "quality", "client")
"""What knows scans and secrets. Each may use those before it, and none after."""

SERVER_SIDE = ("wire", "server", "engine")
FRONT = ("api", "cli")
RESEARCH = ("audit", "evaluation", "training", "export", "datasets")
HEAVY = ("torch", "monai", "onnx")

FORBIDDEN = {
    "imaging": ("reid", "protection", "quality", "client", "wire", "server", *FRONT, *RESEARCH),
    "reid": ("protection", "quality", "client", "wire", "server", *FRONT, *RESEARCH),
    "protection": ("quality", "client", "wire", "server", *FRONT, *RESEARCH),
    "quality": ("client", "wire", "server", *FRONT, *RESEARCH),
    "client": ("server", *FRONT, *RESEARCH),
    "cohort": ("server", "engine", *FRONT, *RESEARCH),
    "wire": ("server", "engine", *SECRET, "key", *FRONT, *RESEARCH),
    "server": (*SECRET, "key", *FRONT, *RESEARCH),
    "engine": ("wire", "server", *SECRET, "key", "bundle", *FRONT, *RESEARCH),
}


def within(name: str, *parts: str) -> bool:
    """Whether a module, or what is taken of one, belongs to one of these parts of the package."""
    return name.split(".")[:1] == ["mixpriv"] and name.split(".")[1:2] in [[part] for part in parts]


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, *FORBIDDEN)])
def test_layers(name: str) -> None:
    forbidden = FORBIDDEN[name.split(".")[1]]
    assert not {other for other in imported(MODULES[name]) if within(other, *forbidden)}
    if within(name, *SECRET, "wire"):
        assert not {other for other in imported(MODULES[name]) if other.split(".")[0] in HEAVY}


def test_what_all_use_knows_no_layer() -> None:
    own = [name for name in MODULES if name.count(".") == 1 and not within(name, *FORBIDDEN, *FRONT, *RESEARCH)]
    layers = (*SECRET, "wire", "server", *FRONT, "audit", "evaluation", "training", "export")
    assert len(own) > 15
    for name in own:
        assert not {other for other in imported(MODULES[name]) if within(other, *layers)}, name


def test_commands_are_not_imported_by_what_they_use() -> None:
    for name in MODULES:
        if not within(name, "cli"):
            assert not {other for other in imported(MODULES[name]) if within(other, "cli")}, name


def test_no_circles() -> None:
    edges = graph(MODULES)
    assert circle(edges) == []
    assert len(edges) > 150
    assert sum(map(len, edges.values())) > 500
    assert len([name for name in edges if within(name, "export")]) > 10


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d"]


def test_nobody_asks_which_mode_it_is() -> None:
    """Outside protection/ and the commands, what differs between modes is done by the mode itself."""
    known = constants(MODULES)
    asked = {
        name: found
        for name, tree in MODULES.items()
        if not within(name, "protection", "cli") and (found := list(questions(tree, known[name])))
    }
    assert asked == {}


@pytest.mark.parametrize(
    "code",
    [
        "mode.name == 'none'",
        "'mixup' != name",
        "name in ('local', 'none')",
        "mode == Plain()",
        "mode in (NOTHING, other)",
        "isinstance(mode, Shielded)",
        "isinstance(mode, (Local, modes.Plain))",
        "isinstance(mode, Mixup | Shielded)",
        "type(mode) is modes.Mixup",
        "name.startswith('shielded')",
        "{'mixup': 1, 'none': 2}[mode.name]",
        "def f(mode):\n match mode:\n  case Mixup(): pass",
        "def f(mode):\n match mode.name:\n  case 'none': pass",
    ],
)
def test_questions_are_found_however_they_are_written(code: str) -> None:
    known = constants({"here": ast.parse("from there import NOTHING"), "there": ast.parse("NOTHING, x = Plain(), 1")})
    assert list(questions(ast.parse(code), known["here"]))


@pytest.mark.parametrize("code", ["mode.name", "named('mixup')", "{'none': Plain(), 'mixup': Mixup()}[text]", "a == b"])
def test_what_makes_a_mode_is_no_question(code: str) -> None:
    assert not list(questions(ast.parse(code)))


def test_no_torch_at_run_time() -> None:
    names = [name for name in MODULES if within(name, *SECRET, "wire", "api") or name.startswith("mixpriv.cli.client")]
    names = [name for name in names if not name.endswith("__main__")]
    heavy = (*HEAVY, "mixpriv.training", "mixpriv.export", "mixpriv.server")
    code = f"import sys, {', '.join(names)}; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
