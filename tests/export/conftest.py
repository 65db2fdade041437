from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mixpriv.bundle import Bundle
from tests.support.toybundle import write_toy_crop_bundle

MISSING = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []
OURS = ("mixpriv.engine.bindings", "mixpriv.engine.cuda", "mixpriv.engine.tensorrt", "mixpriv.export.tensorrt_plan")


def pytest_report_header() -> str:
    """Say why nothing of this folder runs."""
    return f"tests/export skipped: {', '.join(MISSING)} not installed" if MISSING else ""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy_crop_bundle(tmp_path_factory.mktemp("toy"), slowness=1)  # one convolution


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[ModuleType, ModuleType]]]:
    """Makes this a machine with a TensorRT of a version and a GPU; what is imported of ours sees those."""
    from tests.export.faketensorrt import FakeCuda, FakeTensorRt

    def be(version: str = "10.16.1.11", gpu: str = "NVIDIA Imagined") -> tuple[ModuleType, ModuleType]:
        trt, cuda = FakeTensorRt(version), FakeCuda(gpu)
        bindings = ModuleType("cuda.bindings")
        bindings.runtime = cuda
        for module in (trt, cuda, bindings, ModuleType("cuda")):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        for name in OURS:
            sys.modules.pop(name, None)
        return trt, cuda

    yield be
    for name in OURS:
        sys.modules.pop(name, None)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return tmp_path / "out"
