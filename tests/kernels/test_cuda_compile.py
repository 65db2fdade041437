"""The CUDA sources through the real compiler, warnings as errors: no GPU is needed for that, only nvcc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mixpriv import cuda

CSRC = Path(__file__).parents[2] / "csrc"
SOURCES = sorted((CSRC / "cuda").glob("*.cu"))


@pytest.fixture(scope="module")
def nvcc() -> str:
    """From CUDACXX, CUDA_HOME or PATH; scripts/build-cuda gets one from PyPI where there is none."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    for candidate in (os.environ.get("CUDACXX"), f"{home}/bin/nvcc", "nvcc"):
        if candidate and shutil.which(candidate):
            return candidate
    pytest.skip("needs nvcc: CUDACXX, CUDA_HOME or PATH")


@pytest.fixture(scope="module")
def architectures(nvcc: str) -> list[str]:
    """The oldest that we support and the newest that this compiler knows, as code and as PTX."""
    told = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    newest = max(int(number) for number in re.findall(r"compute_(\d+)", told))
    return [f"-gencode=arch=compute_{n},code=[compute_{n},sm_{n}]" for n in (75, newest)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_compiles_without_a_warning(source: Path, nvcc: str, architectures: list[str], tmp_path: Path) -> None:
    flags = ["-std=c++17", "-O1", "-fmad=false", "-Werror", "all-warnings", "-Xcompiler=-Wall,-Wextra,-fPIC"]
    command = [nvcc, *flags, *architectures, f"-I{CSRC}", f"-I{CSRC}/include", "-c", str(source), "-o"]
    done = subprocess.run([*command, str(tmp_path / "object.o")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


def test_an_extension_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cuda.EMULATION, raising=False)
    if cuda.summary() == "not compiled":
        pytest.skip("mixpriv was installed without its CUDA extension")
    if cuda.problem() is None:
        pytest.skip("there is a CUDA device")
    assert re.fullmatch(r"no CUDA device found( \(cudaGetDeviceCount: .+ \(cudaError\w+\)\))?", str(cuda.problem()))
    assert cuda.devices() == []
