"""Our networks' ONNX graphs run by PyTorch: each operator by the torch function that it was exported from.

Shapes are computed on the CPU, so that nothing waits for the GPU and the rest can be a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from mixpriv.errors import InputError

DTYPES: Mapping[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
}
Attributes = dict[str, Any]
Operator = Callable[[Attributes, list[Tensor]], Tensor]


class TorchGraph:
    """A graph whose weights are on a device; called with its inputs there.

    Raises
    ------
    InputError
        it has an operator that none of our networks has.
    """

    def __init__(self, model: onnx.ModelProto, device: torch.device) -> None:
        self.outputs = [output.name for output in model.graph.output]
        self._values = {t.name: _to_torch(t, device) for t in model.graph.initializer}
        self._steps: list[tuple[NodeProto, Operator, Attributes]] = []
        for node in model.graph.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self._values[node.output[0]] = _to_torch(attributes["value"], device)
            elif node.op_type in _OPERATORS:
                self._steps.append((node, _OPERATORS[node.op_type], attributes))
            else:
                raise InputError(f"operator {node.op_type}: expected one of {', '.join(sorted(_OPERATORS))}")
        self._fold()
        self._last_use = {name: i for i, (node, _, _) in enumerate(self._steps) for name in node.input}

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run it once; what no later step needs is given back at once."""
        values = dict(inputs)
        for index, (node, operator, attributes) in enumerate(self._steps):
            given = [self._values[name] if name in self._values else values[name] for name in node.input]
            values[node.output[0]] = operator(attributes, given)
            for name in set(node.input):
                if self._last_use[name] == index and name not in self.outputs:
                    values.pop(name, None)
        return {name: values[name] for name in self.outputs}

    def _fold(self) -> None:
        """Compute once what depends on no input, such as the cast of a weight."""
        steps = []
        for node, operator, attributes in self._steps:
            if all(name in self._values for name in node.input):
                self._values[node.output[0]] = operator(attributes, [self._values[name] for name in node.input])
            else:
                steps.append((node, operator, attributes))
        used = {name for node, _, _ in steps for name in node.input}
        self._steps, self._values = steps, {k: _packed(v) for k, v in self._values.items() if k in used}


def _to_torch(tensor: TensorProto, device: torch.device) -> Tensor:
    value = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
    return value if value.dtype == torch.int64 else value.to(device)


def _packed(value: Tensor) -> Tensor:
    """Weights with the channels last, as tensor cores want them; the activations follow."""
    return value.contiguous(memory_format=torch.channels_last_3d) if value.ndim == 5 else value


def _pads(attributes: Attributes) -> list[int]:
    begin, end = np.split(np.array(attributes.get("pads", [0] * 6)), 2)
    if (begin != end).any():
        raise InputError("a convolution: expected the same padding on both sides")
    return [int(n) for n in begin]


def _convolve(attributes: Attributes, given: list[Tensor]) -> Tensor:
    stride, dilation = attributes.get("strides", 1), attributes.get("dilations", 1)
    bias = given[2] if len(given) > 2 else None
    group = attributes.get("group", 1)
    return F.conv3d(given[0], given[1], bias, stride, _pads(attributes), dilation, group)


def _transposed(attributes: Attributes, given: list[Tensor]) -> Tensor:
    bias = given[2] if len(given) > 2 else None
    group = attributes.get("group", 1)
    return F.conv_transpose3d(given[0], given[1], bias, attributes.get("strides", 1), _pads(attributes), 0, group)


def _normalise(attributes: Attributes, given: list[Tensor]) -> Tensor:
    """Instance normalisation that keeps the channels last, unlike torch's own."""
    value, scale, shift = given
    variance, mean = torch.var_mean(value, (2, 3, 4), correction=0, keepdim=True)
    factor = torch.rsqrt(variance + attributes["epsilon"]) * scale.view(1, -1, 1, 1, 1)
    return torch.addcmul(shift.view(1, -1, 1, 1, 1) - mean * factor, value, factor)


def _slice(attributes: Attributes, given: list[Tensor]) -> Tensor:
    value = given[0]
    starts, ends, axes, *steps = (g.tolist() for g in given[1:])
    for i, axis in enumerate(axes):
        cut: list[slice] = [slice(None)] * value.ndim
        cut[axis] = slice(starts[i], ends[i], steps[0][i] if steps else 1)
        value = value[tuple(cut)]
    return value


def _divide(attributes: Attributes, given: list[Tensor]) -> Tensor:
    whole = not given[0].is_floating_point()
    return torch.div(given[0], given[1], rounding_mode="trunc" if whole else None)


def _unsqueeze(attributes: Attributes, given: list[Tensor]) -> Tensor:
    value = given[0]
    for axis in sorted(given[1].flatten().tolist()):
        value = value.unsqueeze(axis)
    return value


_OPERATORS: Mapping[str, Operator] = {
    "Add": lambda a, g: g[0] + g[1],
    "Cast": lambda a, g: g[0].to(DTYPES[a["to"]]),
    "Concat": lambda a, g: torch.cat(g, a["axis"]),
    "Conv": _convolve,
    "ConvTranspose": _transposed,
    "Div": _divide,
    "Gather": lambda a, g: g[0][g[1]],  # of shapes only
    "InstanceNormalization": _normalise,
    "LeakyRelu": lambda a, g: F.leaky_relu(g[0], a.get("alpha", 0.01)),
    "Mul": lambda a, g: g[0] * g[1],
    "Reshape": lambda a, g: g[0].reshape(g[1].tolist()),
    "Round": lambda a, g: g[0].round(),
    "Shape": lambda a, g: torch.tensor(g[0].shape),
    "Slice": _slice,
    "Softmax": lambda a, g: g[0].softmax(a.get("axis", -1)),
    "Sub": lambda a, g: g[0] - g[1],
    "Transpose": lambda a, g: g[0].permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
}
