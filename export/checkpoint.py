"""Weights to start a training from: an earlier run's, or those of a bundle, read back from its ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from mixpriv.export.graphs import FP16_SUFFIX, unpack_head
from onnx import numpy_helper
from torch import Tensor

from mixpriv.bundle_fields import FIELDS, MOST_RECORD_BYTES
from mixpriv.engine.onnx_check import read_network
from mixpriv.errors import InputError
from mixpriv.reading import read_json
from mixpriv.schema import Field, FieldError, record, whole
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
    data, _ = read_network(path)  # it need not be our own
    for tensor in onnx.load_model_from_string(data).graph.initializer:
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
    steps = "extractor_steps" if network == "extractor" else "steps"
    try:
        said = record(
            {
                "unmixer_sharpness": Field(FIELDS["unmixer_sharpness"].check, None),
                "trained": Field(record({steps: Field(whole(0, 10**9))}, others=True)),
            },
            others=True,
        )(read_json(path / "bundle.json", MOST_RECORD_BYTES))
    except FieldError as error:
        raise InputError(f"{path / 'bundle.json'}: field missing or of the wrong kind: {error}") from None
    sharpness = said["unmixer_sharpness"]
    if "unmixer" in _FILES[network] and sharpness is not None:  # schema 1 had it in the graph
        weights[_FILES[network]["unmixer"] + "sharpness"] = torch.tensor(sharpness)
    return Initial(weights, said["trained"][steps])
