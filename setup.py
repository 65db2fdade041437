"""Builds the native extension with CMake; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
COMPILERS = ("c++", "g++", "clang++")


class CMakeBuild(build_ext):
    """Configure and build ``CMakeLists.txt``, one target per declared extension module."""

    def build_extension(self, ext: Extension) -> None:
        """Leave the extension where setuptools expects it."""
        require_build_tools()
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp, sysconfig.get_platform(), sys.implementation.cache_tag or "python").resolve()
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target.parent,
            "PYBIND11_FINDPYTHON": "ON",
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
        }
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
        run(["cmake", "--build", str(build), "--config", "Release", "--target", ext.name.rpartition(".")[2]])


def require_build_tools() -> None:
    """Stop with one clear line if the compiler or Python's headers are missing."""
    chosen = os.environ.get("CXX")
    if os.name != "nt" and not any(map(shutil.which, [chosen.split()[0]] if chosen else COMPILERS)):
        looked_for = f"CXX={chosen}" if chosen else ", ".join(COMPILERS)
        sys.exit(f"mixpriv: no C++17 compiler found (looked for {looked_for}); on Debian or Ubuntu: apt install g++")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        sys.exit("mixpriv: Python's C headers (Python.h) are missing; on Debian or Ubuntu: apt install python3-dev")


def run(command: list[str]) -> None:
    """Run one build step; its own output says what failed."""
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"mixpriv: building the native extension failed in: {' '.join(command)}")


setup(
    packages=[*find_packages(include=["mixpriv", "mixpriv.*"]), "mixpriv.export"],
    package_dir={"mixpriv.export": "export"},
    ext_modules=[Extension("mixpriv._native", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
