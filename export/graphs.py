"""The networks as they ship: soft-max, quantisation and casts are in the graph, so no runtime can differ in them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

_AXES = ("depth", "height", "width")
FP16_SUFFIX = ".fp16"
"""Marks a weight that is stored as FP16."""


class SegmenterGraph(nn.Module):
    """mixture FP16 (N,M,D,H,W) -> segmentation_mixture UINT8 (N,C-1,D,H,W): probabilities x255, background dropped."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, mixture: Tensor) -> Tensor:
        # float32, or float64 where a reference is computed
        probabilities = self.network(mixture.to(next(self.network.parameters()).dtype)).softmax(1)
        return torch.round(probabilities[:, 1:] * 255.0).to(torch.uint8)


class UnmixerGraph(nn.Module):
    """unmixer_input f32 (N,2C+1,D,H,W), target f32 (N,M,D,H,W) if it sees it -> probabilities f32 (N,C,D,H,W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, unmixer_input: Tensor, target: Tensor | None = None) -> Tensor:
        return torch.softmax(self.network(unmixer_input, target), 1)


class ExtractorGraph(nn.Module):
    """image f32 (N,1,D,H,W) -> brain_probability f32 (N,1,D,H,W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.network(image))


def to_onnx(
    graph: nn.Module, example: tuple[Tensor, ...], input_names: Sequence[str], output_name: str
) -> onnx.ModelProto:
    """One self-contained ONNX graph with dynamic batch and spatial size and FP16-stored weights."""
    axes = {0: "batch"} | {i + 2: axis for i, axis in enumerate(_AXES)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        torch.onnx.export(
            graph.eval(),
            example,
            path,
            dynamo=False,
            opset_version=18,
            input_names=list(input_names),
            output_names=[output_name],
            dynamic_axes=dict.fromkeys([*input_names, output_name], axes),
        )
        model = onnx.load(path)
    store_weights_as_fp16(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def store_weights_as_fp16(model: onnx.ModelProto) -> None:
    """Keep every larger float32 initializer as FP16 with a cast to float32 behind it (in place): half the file."""
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 256:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + FP16_SUFFIX))
        casts.append(helper.make_node("Cast", [name + FP16_SUFFIX], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
