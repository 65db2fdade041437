from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixpriv import engine
from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from tests.support.toybundle import expected_probabilities, write_toy_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy_bundle(tmp_path_factory.mktemp("toy"))


def mixture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32).astype(np.float16)


class TestAnswer:
    @pytest.mark.parametrize("shape", [(1, 1, 16, 16, 16), (2, 1, 32, 16, 48)])
    @pytest.mark.parametrize("precision", ["auto", "f32"])
    def test_is_the_networks_at_every_size(self, bundle: Bundle, shape: tuple[int, ...], precision: str) -> None:
        x = mixture(*shape)
        answer = engine.load(bundle.segmenter_path, threads=1, precision=precision)(mixture=x)["segmentation_mixture"]
        expected = 255 * expected_probabilities(x)[:, 1:]
        assert answer.dtype == np.uint8
        assert np.abs(answer - expected).max() <= (0.51 if precision == "f32" else 8)

    def test_does_not_depend_on_threads(self, bundle: Bundle) -> None:
        x = mixture(1, 1, 32, 32, 32)
        one, two = (engine.load(bundle.segmenter_path, threads=n)(mixture=x) for n in (1, 2))
        np.testing.assert_array_equal(one["segmentation_mixture"], two["segmentation_mixture"])

    def test_belongs_to_the_caller(self, bundle: Bundle) -> None:
        network = engine.load(bundle.segmenter_path, threads=1)
        x = mixture(1, 1, 16, 16, 16)
        first = network(mixture=x)["segmentation_mixture"]
        kept = first.copy()
        network(mixture=np.zeros_like(x))
        np.testing.assert_array_equal(first, kept)

    def test_belongs_to_the_engine_that_lends(self, bundle: Bundle) -> None:
        network = engine.load(bundle.segmenter_path, threads=1, lends=True)
        x = mixture(1, 1, 16, 16, 16)
        first = network(mixture=x)["segmentation_mixture"]
        kept = first.copy()
        second = network(mixture=np.zeros_like(x))["segmentation_mixture"]
        np.testing.assert_array_equal(first, second)
        assert (first != kept).any()

    def test_is_in_blocks_of_voxels_as_channels(self, bundle: Bundle) -> None:
        c = len(bundle.classes)
        known = np.zeros((1, 2 * c + 1, 16, 32, 48), np.float32)
        assert engine.load(bundle.unmixer_path)(unmixer_input=known)["correction"].shape == (1, 8 * c, 8, 16, 24)


def test_signals_can_come_when_networks_are_gone(bundle: Bundle) -> None:
    code = (
        "import os, signal, sys; from mixpriv import engine; "
        "networks = [engine.load(sys.argv[1]) for _ in range(2)]; "
        "networks.pop(0); networks.clear(); "
        "signal.signal(signal.SIGUSR1, lambda *_: print('came')); os.kill(os.getpid(), signal.SIGUSR1)"
    )
    command = [sys.executable, "-c", code, str(bundle.unmixer_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "came\n")


def test_import_reports_to_nobody() -> None:
    code = (
        "import sys, threading, mixpriv.engine.openvino; "
        "print([m for m, found in sys.modules.items() if found and m.startswith('openvino_telemetry')], "
        "threading.active_count())"
    )
    # Not in a CI, where it reports to nobody by itself.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[] 1\n"


BAD = [
    ({"mixture": np.zeros((1, 1, 16, 16, 16), np.float32)}, "mixture: expected float16, got float32"),
    ({"mixture": np.zeros((16, 16, 16), np.float16)}, r"mixture: expected shape .*, got \(16, 16, 16\)"),
    ({"mixture": np.zeros((1, 2, 16, 16, 16), np.float16)}, r"mixture: expected shape .*, got \(1, 2, 16, 16, 16\)"),
    ({"mixture": np.zeros((1, 1, 16, 16, 32), np.float16)[..., ::2]}, "mixture: expected a C-contiguous array"),
    ({"image": np.zeros((1, 1, 16, 16, 16), np.float16)}, r"expected \['mixture'\], got \['image'\]"),
]


class TestRefusal:
    @pytest.mark.parametrize(("inputs", "message"), BAD)
    def test_of_what_would_be_cast_or_copied(self, bundle: Bundle, inputs: dict, message: str) -> None:
        with pytest.raises(InputError, match=message):
            engine.load(bundle.segmenter_path)(**inputs)

    def test_of_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"absent\.onnx: no such file"):
            engine.load(tmp_path / "absent.onnx")

    def test_of_a_file_that_is_no_network(self, tmp_path: Path) -> None:
        path = tmp_path / "text.onnx"
        path.write_text("not a network", encoding="utf-8")
        with pytest.raises(InputError, match=r"text\.onnx: not a readable ONNX network"):
            engine.load(path)
