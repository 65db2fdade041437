"""The networks as they ship: casts, and the segmenter's soft-max and quantisation, are in the graph."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from mixpriv.training.networks import Unmixer

_AXES = ("depth", "height", "width")
FP16_SUFFIX = ".fp16"
"""Marks a weight that is stored as FP16."""


class SegmenterGraph(nn.Module):
    """mixture FP16 (N,M,D,H,W) -> segmentation_mixture UINT8 (N,C-1,D,H,W): probabilities x255, background dropped."""

    output = "segmentation_mixture"
    output_axes = _AXES

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, mixture: Tensor) -> Tensor:
        # float32, or float64 where a reference is computed
        probabilities = self.network(mixture.to(next(self.network.parameters()).dtype)).softmax(1)
        return torch.round(probabilities[:, 1:] * 255.0).to(torch.uint8)


class UnmixerGraph(nn.Module):
    """unmixer_input f32 (N,2C+1,D,H,W), target f32 (N,M,D,H,W) if it sees it -> correction f32 (N,8C,D/2,H/2,W/2).

    The last layers at full resolution would take as long as all others together: depth-to-space, the linear unmixing's
    share and the soft-max are the client's kernel ``unmix``. Its sharpness stands in bundle.json.
    """

    output = "correction"
    output_axes = tuple(f"{axis}/2" for axis in _AXES)

    def __init__(self, network: Unmixer) -> None:
        super().__init__()
        self.network, self.head = network, _packed_head(network)

    def forward(self, unmixer_input: Tensor, target: Tensor | None = None) -> Tensor:
        correction: Tensor = self.head(self.network.features(unmixer_input, target))
        return correction


def pack_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a 2x2x2 transposed convolution as those of a 1x1x1 convolution to blocks of voxels as channels."""
    weight, bias = weights["weight"], weights["bias"]
    features, classes = weight.shape[:2]
    packed = weight.reshape(features, 8 * classes).T.reshape(8 * classes, features, 1, 1, 1)
    return {"weight": packed, "bias": bias.repeat_interleave(8)}


def unpack_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack_head`."""
    weight, bias = weights["weight"], weights["bias"]
    channels, features = weight.shape[:2]
    unpacked = weight.reshape(channels, features).T.reshape(features, channels // 8, 2, 2, 2)
    return {"weight": unpacked, "bias": bias[::8]}


class LocalGraph(nn.Module):
    """target f32 (N,M,D,H,W) -> logits f32 (N,8C,D/2,H/2,W/2), of a network like D that is shown the scan alone."""

    output = "logits"
    output_axes = UnmixerGraph.output_axes

    def __init__(self, network: Unmixer) -> None:
        super().__init__()
        self.network, self.head = network, _packed_head(network)

    def forward(self, target: Tensor) -> Tensor:
        logits: Tensor = self.head(self.network.features(None, target))
        return logits


def _packed_head(network: Unmixer) -> nn.Conv3d:
    features, classes = network.head.weight.shape[:2]
    head = nn.Conv3d(features, 8 * classes, 1)
    head.load_state_dict(pack_head(network.head.state_dict()))
    return head


class ExtractorGraph(nn.Module):
    """image f32 (N,1,D,H,W) -> brain_probability f32 (N,1,D,H,W)."""

    output = "brain_probability"
    output_axes = _AXES

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.network(image))


Graph = SegmenterGraph | UnmixerGraph | LocalGraph | ExtractorGraph


def to_onnx(graph: Graph, example: tuple[Tensor, ...], input_names: Sequence[str]) -> onnx.ModelProto:
    """One self-contained ONNX graph with dynamic batch and spatial size and FP16-stored weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        torch.onnx.export(
            graph.eval(),
            example,
            path,
            dynamo=False,
            opset_version=18,
            input_names=list(input_names),
            output_names=[graph.output],
            dynamic_axes=dict.fromkeys(input_names, _dynamic(_AXES)) | {graph.output: _dynamic(graph.output_axes)},
        )
        model = onnx.load(path)
    store_weights_as_fp16(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _dynamic(axes: Sequence[str]) -> dict[int, str]:
    return {0: "batch"} | {i + 2: axis for i, axis in enumerate(axes)}


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
