"""The table of kernels is made by calls that still work, and beside others' that give the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "kernels.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not BENCH.is_file():
        pytest.skip("the benches are not here")
    spec = importlib.util.spec_from_file_location("bench_kernels", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_kernels", module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "torch_calls", lambda *_: {})  # sets the threads of the whole process
    return module


def test_every_kernel_gives_what_the_others_do(bench: ModuleType) -> None:
    names = []
    for task in bench.tasks(bench.Scene(24), 1):
        got = task.call(*task.arrays)
        for who, call in task.others.items():
            bench.check(task, who, got, call())
        names.append(task.name)
    assert len(names) == len(set(names)) > 15
