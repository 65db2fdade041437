"""The segmenter stays with its owner: no file of the client's part, no message and nothing left behind holds it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mixpriv
from mixpriv.bundle import load_bundle
from mixpriv.cli.research.main import main
from tests.server.commands import address_when_ready, command
from tests.support.weights import Weights
from tests.wire.forwarding import recorded

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pytriton", "onnx")), reason="needs the server extra"
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a bundle with trained networks."""
    folder = tmp_path_factory.mktemp("split") / "parts"
    assert main(["split", "hippocampus", "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def weights(parts: Path) -> Weights:
    return Weights(parts / "server" / "segmenter.onnx")


@pytest.fixture(scope="module")
def server(parts: Path) -> Iterator[int]:
    """The port of a server that has its own part alone."""
    with command(load_bundle(parts / "server"), "--port", "0") as running:
        yield int(address_when_ready(running).rpartition(":")[2])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).uniform(0, 900, (36, 48, 36)).astype(np.float32)
    nib.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / "crop.nii.gz")
    return tmp_path / "crop.nii.gz"


class TestWeights:
    def test_are_found_where_they_are(self, parts: Path, weights: Weights) -> None:
        data = (parts / "server" / "segmenter.onnx").read_bytes()
        assert weights.count_in(data) > 200_000
        assert weights.count_in(b"abc" + data[len(data) // 2 :][:64]) >= 3, "wherever they begin"

    def test_are_in_no_file_of_the_client_s_part(self, parts: Path, weights: Weights) -> None:
        for path in (parts / "client").iterdir():
            assert weights.count_in(path.read_bytes()) == 0, path.name


@pytest.mark.parametrize("mode", ["mixup", pytest.param("shielded", marks=pytest.mark.slow)])
def test_a_client_process_and_a_server_process_with_a_part_each(
    parts: Path, weights: Weights, server: int, scan: Path, tmp_path: Path, mode: str
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    home = {"HOME": own, "XDG_CONFIG_HOME": own, "XDG_DATA_HOME": own, "XDG_CACHE_HOME": own, "TMPDIR": own}
    with recorded(server) as (port, asked, answered):
        arguments = ["segment", scan, "--bundle", parts / "client", "--server", f"127.0.0.1:{port}", "--mode", mode]
        result = subprocess.run(
            [sys.executable, "-m", "mixpriv.cli.client", *map(str, arguments), "-o", str(own / "labels.nii.gz")],
            env=os.environ | {name: str(value) for name, value in home.items()},
            cwd=own, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(asked) > 48 * 64 * 48 * 2, "a mixture in FP16 was heard"
    assert len(answered) > 48 * 64 * 48 * 2, "and an answer of two classes"
    left = [path for path in own.rglob("*") if path.is_file()]
    assert {"client.key", "labels.nii.gz"} <= {path.name for path in left}
    for name, data in {"asked": asked, "answered": answered, **{str(p): p.read_bytes() for p in left}}.items():
        assert weights.count_in(data) == 0, name


def test_the_answer_is_the_whole_bundle_s(parts: Path, server: int, scan: Path) -> None:
    at_its_owner = mixpriv.segment(scan, parts / "client", server=f"127.0.0.1:{server}", mode="mixup")
    with mixpriv.Client("hippocampus", server=f"127.0.0.1:{server}", mode="mixup") as whole:
        np.testing.assert_array_equal(at_its_owner.labels, whole.segment(scan).labels)


def test_a_check_needs_the_client_s_part_alone(parts: Path, server: int, capsys: pytest.CaptureFixture[str]) -> None:
    from mixpriv.cli.server.main import main as server_main

    assert server_main(["check", "--bundle", str(parts / "client"), "--server", f"127.0.0.1:{server}"]) == 0
    assert "serves hippocampus" in capsys.readouterr().out
