"""Builds the native extensions with CMake; everything else is in pyproject.toml.

The one for CUDA is built where nvcc is found. MIXPRIV_CUDA=ON insists on it, OFF goes without; CUDAARCHS names
architectures (``native``, ``90``) in place of all that nvcc knows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).parent.resolve()
COMPILERS = ("c++", "g++", "clang++")
CUDA_CHOICES = ("AUTO", "ON", "OFF")
LEAST_CUDA = (12, 4)


class CMakeBuild(build_ext):
    """Configure and build ``CMakeLists.txt``, one target per declared extension module."""

    def build_extension(self, ext: Extension) -> None:
        """Leave the extension where setuptools expects it."""
        require_build_tools()
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        name = ext.name.rpartition(".")[2]
        tag = sys.implementation.cache_tag or "python"
        build = Path(self.build_temp, sysconfig.get_platform(), tag, name).resolve()
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target.parent,
            "PYBIND11_FINDPYTHON": "ON",
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "MIXPRIV_CUDA": "OFF",
        }
        if name == "_cuda":
            options |= {"MIXPRIV_CUDA": "ON", "CMAKE_CUDA_COMPILER": find_nvcc()}
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        # Fresh: the cache of an earlier build names programs of pip's build environment, which is gone.
        run(
            [
                "cmake",
                "--fresh",
                "-S",
                str(ROOT),
                "-B",
                str(build),
                *generator,
                *(f"-D{k}={v}" for k, v in options.items()),
            ]
        )
        run(["cmake", "--build", str(build), "--config", "Release", "--target", name])


def require_build_tools() -> None:
    """Stop with one clear line if the compiler or Python's headers are missing."""
    chosen = os.environ.get("CXX")
    if os.name != "nt" and not any(map(shutil.which, [chosen.split()[0]] if chosen else COMPILERS)):
        looked_for = f"CXX={chosen}" if chosen else ", ".join(COMPILERS)
        sys.exit(f"mixpriv: no C++17 compiler found (looked for {looked_for}); on Debian or Ubuntu: apt install g++")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        sys.exit("mixpriv: Python's C headers (Python.h) are missing; on Debian or Ubuntu: apt install python3-dev")


def run(command: list[str]) -> None:
    """Run one build step; its own output says what failed. Only an optional extension may fail."""
    if subprocess.run(command, check=False).returncode != 0:
        raise CompileError(f"mixpriv: building the native extension failed in: {' '.join(command)}")


def extensions() -> list[Extension]:
    """The kernels for the CPU, the server's guard, and kernels for CUDA where they can be had, or were asked for."""
    choice = os.environ.get("MIXPRIV_CUDA", "AUTO").upper()
    if choice not in CUDA_CHOICES:
        sys.exit(f"mixpriv: MIXPRIV_CUDA: expected one of {', '.join(CUDA_CHOICES)}, got {choice!r}")
    always = [Extension("mixpriv._native", sources=[])]
    if sys.platform == "linux":  # where tritonserver runs
        always.append(Extension("mixpriv.server._guard", sources=[]))
    if choice == "OFF" or (choice == "AUTO" and find_nvcc() is None):
        return always
    if find_nvcc() is None:
        least = ".".join(map(str, LEAST_CUDA))
        sys.exit(
            f"mixpriv: MIXPRIV_CUDA=ON, but no nvcc from {least} found (CUDACXX, CUDA_HOME, PATH, /usr/local/cuda)"
        )
    return [*always, Extension("mixpriv._cuda", sources=[], optional=choice == "AUTO")]


def find_nvcc() -> str | None:
    """The CUDA compiler where CMake would look for it too, if it is new enough."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    for candidate in (os.environ.get("CUDACXX"), shutil.which("nvcc"), f"{home}/bin/nvcc"):
        if candidate and shutil.which(candidate):
            told = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False).stdout
            release = re.search(r"release (\d+)\.(\d+)", told)
            return candidate if release and tuple(map(int, release.groups())) >= LEAST_CUDA else None
    return None


setup(
    packages=[*find_packages(include=["mixpriv", "mixpriv.*"]), "mixpriv.export"],
    package_dir={"mixpriv.export": "export"},
    ext_modules=extensions(),
    cmdclass={"build_ext": CMakeBuild},
)
