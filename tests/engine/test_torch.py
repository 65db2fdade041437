"""PyTorch as an engine, on the CPU: the graph that a GPU would run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

import onnx
import torch

from mixpriv import engine
from mixpriv.bundle import Bundle, load_bundle, shipped_bundles
from mixpriv.engine.choice import load_fastest
from mixpriv.engine.torch_gpu import TorchEngine
from mixpriv.errors import EngineError, InputError
from tests.support.toybundle import write_toy_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy_bundle(tmp_path_factory.mktemp("toy"), slowness=1)


def mixture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32).astype(np.float16)


@pytest.mark.parametrize("shape", [(1, 1, 16, 16, 16), (2, 1, 32, 16, 48)])
@pytest.mark.parametrize("mixed", [False, True])
def test_answers_as_openvino(bundle: Bundle, shape: tuple[int, ...], mixed: bool) -> None:
    x = mixture(*shape)
    x.flags.writeable = False
    answer = TorchEngine(bundle.segmenter_path, device="cpu", mixed=mixed)(mixture=x)["segmentation_mixture"]
    expected = engine.load(bundle.segmenter_path, precision="f32")(mixture=x)["segmentation_mixture"]
    assert answer.dtype == np.uint8
    assert answer.flags.c_contiguous
    assert np.abs(answer.astype(int) - expected).max() <= (1 if not mixed else 3)


@pytest.mark.parametrize("name", shipped_bundles())
def test_runs_the_shipped_networks(name: str) -> None:
    path = load_bundle(name).segmenter_path
    x = mixture(1, 1, 32, 48, 16)
    answer = TorchEngine(path, device="cpu", mixed=False)(mixture=x)["segmentation_mixture"]
    expected = engine.load(path, precision="f32")(mixture=x)["segmentation_mixture"]
    assert np.mean(np.abs(answer.astype(int) - expected) <= 1) >= 0.999


def test_refuses_what_it_would_cast(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="mixture: expected float16, got float32"):
        TorchEngine(bundle.segmenter_path, device="cpu")(mixture=np.zeros((1, 1, 16, 16, 16), np.float32))
    with pytest.raises(InputError, match=r"mixture: expected shape \[\?,1,\?,\?,\?\], got \(1, 2, 16, 16, 16\)"):
        TorchEngine(bundle.segmenter_path, device="cpu")(mixture=mixture(1, 2, 16, 16, 16))


def test_refuses_an_operator_that_it_does_not_know(bundle: Bundle, tmp_path: Path) -> None:
    model = onnx.load(bundle.segmenter_path)
    next(node for node in model.graph.node if node.op_type == "Round").op_type = "Floor"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="operator Floor: expected one of Add, "):
        TorchEngine(tmp_path / "other.onnx", device="cpu")


def test_a_machine_without_a_gpu_uses_openvino(bundle: Bundle) -> None:
    notes: list[str] = []
    network, name = load_fastest(bundle.segmenter_path, fingerprint=bundle.fingerprint, gpu=0, note=notes.append)
    assert name == "openvino"
    assert network(mixture=mixture(1, 1, 16, 16, 16))["segmentation_mixture"].shape == (1, 5, 16, 16, 16)
    assert [note.split(" is not used")[0] for note in notes] == ["tensorrt", "torch"]
    with pytest.raises(EngineError, match="PyTorch finds no GPU"):
        TorchEngine(bundle.segmenter_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("name", shipped_bundles())
def test_on_a_gpu(name: str) -> None:
    path = load_bundle(name).segmenter_path
    network, expected = TorchEngine(path), engine.load(path, precision="f32")
    for shape in ((1, 1, 32, 48, 16), (2, 1, 48, 48, 32), (1, 1, 32, 48, 16)):  # one graph for each size
        x = mixture(*shape)
        answer, other = network(mixture=x)["segmentation_mixture"], expected(mixture=x)["segmentation_mixture"]
        assert np.mean(np.abs(answer.astype(int) - other) <= 1) >= 0.98
