"""Every name of TensorRT and CUDA that the project uses is in all the versions that it is written for.

The list is made by scripts/check-tensorrt-names from the official bindings. Types are followed as far as the code says
them: annotations, constructors, and what the bindings say that a method returns.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text(encoding="utf-8"))
NAMES, CUDA = RECORD["names"], RECORD["cuda"]
FILES = [ROOT / "export" / "tensorrt_plan.py", ROOT / "mixpriv" / "engine" / "tensorrt.py"]
CUDA_FILE = ROOT / "mixpriv" / "engine" / "cuda.py"


class Reader:
    """Follows the types of TensorRT's objects through a module; ``problems``: names that not all versions have."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree, self.problems, self.seen = tree, [], set()
        self.types: dict[str, str] = {}
        self.functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        for _ in range(2):  # what a method sets on itself may be read by one above it
            for function in self.functions.values():
                self.read(function)

    def read(self, function: ast.FunctionDef) -> None:
        local = {k: v for k, v in self.types.items() if k.startswith("self.")}
        for argument in function.args.args:
            local[argument.arg] = annotated(argument.annotation)
        for node in ast.walk(function):
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                (target,) = node.targets if isinstance(node, ast.Assign) else [node.target]
                said = annotated(node.annotation) if isinstance(node, ast.AnnAssign) else ""
                local[ast.unparse(target)] = said or self.type_of(node.value, local)
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute):
                self.attribute(node, local)
            elif isinstance(node, ast.Call):
                self.type_of(node, local)
        self.types |= {k: v for k, v in local.items() if k.startswith("self.") and v}

    def type_of(self, node: ast.expr | None, local: dict[str, str]) -> str:
        """The name of a TensorRT type or, for the module itself, "trt"; "" for all else."""
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in self.functions:
                return annotated(self.functions[node.func.id].returns)
            return self.call(node, local)
        if ast.unparse(node) in local:  # type: ignore[arg-type]
            return local[ast.unparse(node)]  # type: ignore[arg-type]
        if isinstance(node, ast.Name):
            return "trt" if node.id == "trt" else ""
        if isinstance(node, ast.Attribute):
            return self.attribute(node, local)[1]
        return ""

    def attribute(self, node: ast.Attribute, local: dict[str, str]) -> tuple[str, str]:
        """The recorded name of an attribute, and its type."""
        owner = self.type_of(node.value, local)
        if not owner or node.attr.startswith("__init") or (owner not in NAMES and owner != "trt"):
            return "", ""
        if node.attr in ("name", "value") and f"{owner}.{node.attr}" not in NAMES and "value" in arguments(owner):
            return "", ""  # of an enumeration's member
        name = node.attr if owner == "trt" else f"{owner}.{node.attr}"
        self.seen.add(name)
        if name not in NAMES:
            self.problems.append(f"line {node.lineno}: {name} is not in all versions")
            return "", ""
        if NAMES[name].get("property"):
            kind = NAMES[name]["returns"] or (owner if "value" in arguments(owner) else "")
            return name, kind
        return name, name if owner == "trt" else ""

    def call(self, node: ast.Call, local: dict[str, str]) -> str:
        if not isinstance(node.func, ast.Attribute):
            return ""
        name, _ = self.attribute(node.func, local)
        if not name or not NAMES[name].get("signatures"):
            return ""
        keywords = [k.arg for k in node.keywords]
        fitting = [
            s for s in NAMES[name]["signatures"]
            if len(node.args) + len(keywords) <= len(s["arguments"]) and set(keywords) <= set(s["arguments"])
        ]  # fmt: skip
        if not fitting and node.args and ast.unparse(node.args[0]) == "self":
            return ""  # a constructor called on an instance
        if not fitting:
            self.problems.append(f"line {node.lineno}: {name}: no such arguments in all versions")
            return ""
        kind = fitting[0]["returns"] or ""
        return name if "." not in name and kind in ("", "None") else kind.removesuffix("]")


def arguments(name: str) -> set[str]:
    return {a for s in NAMES[name].get("signatures", ()) for a in s["arguments"]} if name in NAMES else set()


def annotated(annotation: ast.expr | None) -> str:
    text = ast.unparse(annotation) if annotation is not None else ""
    return text.removeprefix("trt.") if text.startswith("trt.") else ""


def read(text: str) -> Reader:
    return Reader(ast.parse(text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_version_has_what_is_used(path: Path) -> None:
    reader = read(path.read_text(encoding="utf-8"))
    assert reader.problems == []


def test_the_code_is_followed_to_its_ends() -> None:
    seen = set().union(*(read(path.read_text(encoding="utf-8")).seen for path in FILES))
    assert seen >= {
        "Builder.build_serialized_network", "Builder.create_network", "IBuilderConfig.get_timing_cache",
        "ICudaEngine.get_tensor_profile_shape", "IExecutionContext.execute_async_v3", "IOptimizationProfile.set_shape",
        "ITensor.name", "ITimingCache.serialize", "OnnxParser.get_error", "ParserError.node_name",
        "Runtime.deserialize_cuda_engine", "Runtime.engine_host_code_allowed",
    }  # fmt: skip


BAD = [
    ("trt.BuilderFlag.FP16", "BuilderFlag.FP16 is not in all"),
    ("trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "EXPLICIT_BATCH is not in all"),
    ("b.platform_has_fast_fp16", "Builder.platform_has_fast_fp16 is not in all"),
    ("b.build_engine(n, c)", "Builder.build_engine is not in all"),
    ("b.create_network(0, 1)", "Builder.create_network: no such arguments"),
    ("b.create_network(flag=0)", "Builder.create_network: no such arguments"),
    ("b.create_builder_config().max_workspace_size", "IBuilderConfig.max_workspace_size is not in all"),
    ("b.create_builder_config().get_timing_cache().load()", "ITimingCache.load is not in all"),
]


@pytest.mark.parametrize(("code", "message"), BAD)
def test_names_that_came_or_went_are_found(code: str, message: str) -> None:
    problems = read(f"def f(b: trt.Builder):\n    x = {code}\n").problems
    assert message in problems[0]


def cuda_uses(tree: ast.Module) -> Iterator[tuple[str, int | None]]:
    """Names used of the CUDA runtime, with the number of arguments if called."""
    called = {id(n.func): len(n.args) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("runtime."):
            yield ast.unparse(node).removeprefix("runtime."), called.get(id(node))


def test_cuda_has_what_is_used() -> None:
    uses = dict(cuda_uses(ast.parse(CUDA_FILE.read_text(encoding="utf-8"))))
    kinds = {name.split(".")[0] for name in CUDA if "." in name}
    assert {name for name in uses if name not in CUDA and name not in kinds} == set()
    assert {n: a for n, a in uses.items() if a is not None} == {n: CUDA[n] for n, a in uses.items() if a is not None}
