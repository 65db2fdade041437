"""The CUDA extension compiled as plain C++: the same kernels and bindings on make-believe devices in host memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = [
    *("-std=c++17", "-O0", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-Wall", "-Wextra", "-Werror"),
    # vectors are read through pointers to floats, as in CUDA; a misaligned one traps here as it does there
    *("-fno-strict-aliasing", "-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error"),
]


def build_emulation(folder: Path) -> Path:
    """Compile it into a folder, unless it is there from the same sources; skips where it cannot be compiled."""
    pybind11 = pytest.importorskip("pybind11", reason="compiling the emulation needs pybind11")
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None or not CSRC.is_dir():
        pytest.skip("compiling the emulation needs a C++ compiler and csrc/")
    sources = sorted(path for path in CSRC.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    target = folder / f"_cuda_emulation-{digest}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if target.is_file():
        return target
    unfinished = target.with_suffix(f".{os.getpid()}")
    headers = ["cuda/emulation", ".", "include"]
    command = [
        *compiler.split(),
        *FLAGS,
        "-DMIXPRIV_CUDA_MODULE=_cuda_emulation",
        *(f"-I{CSRC / header}" for header in headers),
        f"-I{sysconfig.get_path('include')}",
        f"-I{pybind11.get_include()}",
        str(CSRC / "cuda/emulation/module.cpp"),
        "-o",
        str(unfinished),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    unfinished.rename(target)
    return target
