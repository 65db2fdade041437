"""The Python backend's model, without Triton around it."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.server.repository import write_repository


@dataclass(frozen=True)
class Tensor:
    name: str
    array: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.array


NOTES: list[str] = []


class TritonModelError(Exception):
    pass


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model as Triton makes it; a request or a response is here a list of tensors."""
    utils = ModuleType("triton_python_backend_utils")
    utils.__dict__.update(
        Tensor=Tensor,
        Logger=SimpleNamespace(log_info=NOTES.append, log_warn=NOTES.append),
        InferenceResponse=list,
        TritonModelException=TritonModelError,
        get_input_tensor_by_name=lambda request, name: next(t for t in request if t.name == name),
    )
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    # collecting doctests tries to import it, without Triton's module, and leaves what there was of it
    sys.modules.pop("mixpriv.server.model", None)
    module = importlib.import_module("mixpriv.server.model")
    yield module.TritonPythonModel()
    sys.modules.pop("mixpriv.server.model")


def arguments(bundle: Bundle, folder: Path, fingerprint: str | None = None) -> dict[str, str]:
    config = {
        "input": [{"name": "mixture"}],
        "output": [{"name": "segmentation_mixture"}],
        "parameters": {"fingerprint": {"string_value": fingerprint or bundle.fingerprint}},
    }
    return {
        "model_config": json.dumps(config),
        "model_repository": str(folder / bundle.model_name),
        "model_version": str(bundle.model_version),
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }


def test_a_batch_is_answered_request_by_request(model: Any, bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path, link=True)
    model.initialize(arguments(bundle, tmp_path))
    rng = np.random.default_rng(0)
    volumes = [rng.random((n, 1, 16, 32, 16), np.float32).astype(np.float16) for n in (1, 3, 1)]
    responses = model.execute([[Tensor("mixture", volume)] for volume in volumes])
    network = InProcessSegmenter(bundle.segmenter_path)
    for volume, (tensor,) in zip(volumes, responses, strict=True):
        assert tensor.name == "segmentation_mixture"
        np.testing.assert_array_equal(tensor.array, network.segment(volume))


def test_another_network_is_refused(model: Any, bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path, link=True)
    with pytest.raises(TritonModelError, match=r"is not the network that config\.pbtxt names"):
        model.initialize(arguments(bundle, tmp_path, fingerprint="0" * 64))


def test_a_missing_network_is_named(model: Any, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(TritonModelError, match=r"segmenter\.onnx is missing"):
        model.initialize(arguments(bundle, tmp_path))


def test_says_which_engine_it_uses_and_why_no_faster_one(model: Any, bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path, link=True)
    NOTES.clear()
    model.initialize(arguments(bundle, tmp_path) | {"model_instance_kind": "GPU"})
    said = "\n".join(NOTES)
    assert "tensorrt is not used: no segmenter.plan beside the network" in said
    assert "torch is not used: " in said
    assert said.endswith("segmenter.onnx: openvino on the CPU")
