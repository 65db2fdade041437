"""Weights to start a training from: an earlier run's, or those of a bundle, read back from its ONNX files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from mixpriv.export.graphs import FP16_SUFFIX, unpack_head
from onnx import numpy_helper
from torch import Tensor

from mixpriv.errors import InputError
from mixpriv.training.loop import Initial, steps_of

_FILES: Mapping[str, Mapping[str, str]] = {
    "segmenter": {"segmenter": "segmenter.", "unmixer": "unmixer."},
    "control": {"unmixer": "unmixer."},
    "extractor": {"extractor": ""},
}
"""Network to train: file of the bundle -> prefix of its weights in the trained module."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights of an exported network by their names in torch, float32."""
    weights, head = {}, {}
    for tensor in onnx.load(path).graph.initializer:
        name = tensor.name.removesuffix(FP16_SUFFIX)
        if name.startswith("network."):
            weights[name.removeprefix("network.")] = torch.from_numpy(numpy_helper.to_array(tensor).copy()).float()
        elif name.startswith("head."):
            head[name.removeprefix("head.")] = torch.from_numpy(numpy_helper.to_array(tensor).copy()).float()
    return weights | {f"head.{name}": value for name, value in (unpack_head(head) if head else {}).items()}


def load_initial(path: Path, network: str) -> Initial:
    """Weights and the steps behind them: from a run's folder or its ``averaged.pt``, or from a bundle's folder.

    Raises
    ------
    InputError
        none of these, or the bundle has no such network.
    """
    if (path / "averaged.pt").is_file():
        path = path / "averaged.pt"
    if path.is_file():
        return Initial(torch.load(path, weights_only=True), steps_of(path.parent))
    if not (path / "bundle.json").is_file() or network not in _FILES:
        raise InputError(f"{path}: expected a run with averaged.pt, or a bundle with the {network}")
    weights = {
        prefix + name: value
        for file, prefix in _FILES[network].items()
        for name, value in read_weights(path / f"{file}.onnx").items()
    }
    record = json.loads((path / "bundle.json").read_text(encoding="utf-8"))
    if "unmixer" in _FILES[network] and "unmixer_sharpness" in record:  # schema 1 had it in the graph
        weights[_FILES[network]["unmixer"] + "sharpness"] = torch.tensor(float(record["unmixer_sharpness"]))
    trained = record["trained"]
    return Initial(weights, int(trained["extractor_steps" if network == "extractor" else "steps"]))
