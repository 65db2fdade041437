"""What users install: the wheels and the source distribution in the folder of the variable MIXPRIV_DIST."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from mixpriv import __version__, _native
from tests.support.phantom import write_scan

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 40 * 2**20
COMPILERS = ("c++", "g++", "clang++", "cc", "gcc", "clang", "cmake", "ninja")

DIST = Path(os.environ.get("MIXPRIV_DIST", "none"))
WHEELS = sorted(DIST.glob("*.whl"))
OWN = [wheel for wheel in WHEELS if f"-cp{sys.version_info.major}{sys.version_info.minor}-" in wheel.name]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WHEELS, reason="MIXPRIV_DIST names no folder with wheels: see scripts/wheels"),
]


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.name)
class TestWheel:
    def test_is_small_and_for_old_systems(self, wheel: Path) -> None:
        assert wheel.stat().st_size <= MOST_BYTES
        assert re.search(r"manylinux_2_17_x86_64|manylinux2014_x86_64", wheel.name)

    def test_holds_all_and_no_more(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        for needed in ("mixpriv/_native.", "mixpriv/server/_guard.", "mixpriv/bundles/brain-t1/unmixer.onnx"):
            assert any(name.startswith(needed) for name in names), needed
        assert not [name for name in names if name.startswith("tests/") or name.endswith((".cpp", ".hpp"))]


def test_source_distribution_holds_what_builds_it() -> None:
    (source,) = DIST.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CMakeLists.txt", "setup.py", "pyproject.toml", "LICENSE", "csrc/python/module.cpp"} <= names
    assert not [name for name in names if name.endswith(".so")]


@pytest.mark.skipif(not OWN, reason="no wheel for this Python")
def test_runs_without_a_compiler(tmp_path: Path) -> None:
    """The README's commands, in a fresh environment."""
    venv.create(tmp_path / "fresh", with_pip=True, symlinks=True)
    folder = tmp_path / "fresh" / "bin"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MIXPRIV", "VIRTUAL"))}
    environment = kept | {"PATH": str(folder), "HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": ""}
    assert not [name for name in COMPILERS if shutil.which(name, path=environment["PATH"])]

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(folder / command[0]), *command[1:]], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("python", "-m", "pip", "install", "--quiet", str(OWN[-1]))
    assert run("mixpriv-client", "--version") == f"mixpriv-client {__version__}\n"
    isas = run("python", "-c", "from mixpriv import _native; print(_native.available_isas())")
    assert isas == f"{_native.available_isas()}\n"  # the wheel's kernels use what this processor has
    write_scan(tmp_path / "scan.nii.gz")
    run("mixpriv-client", "segment", "scan.nii.gz")
    assert (tmp_path / "scan_dseg.nii.gz").is_file()
    code = "import mixpriv, nibabel as nib; print(mixpriv.segment(nib.load('scan.nii.gz')).volumes_ml['white matter'])"
    assert float(run("python", "-c", code)) > 0
