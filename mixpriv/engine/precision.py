"""Mixed precision put into the graph: FP16 convolutions, FP32 normalisation and soft-max, by casts of our own.

TensorRT 11 knows no precision but the graph's, and PyTorch runs the same graph, so both compute the same thing.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

_HALF = frozenset({"Conv", "ConvTranspose", "LeakyRelu"})
"""Computed in FP16, where tensor cores make them fast; the sums of a convolution are FP32 inside."""

_MOVING = frozenset({"Concat", "Reshape", "Transpose", "Shape"})
"""These only move values, or look at their shape: they follow what they are given."""


def mixed_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its convolutions in FP16; names of inputs and outputs, and their types, stay.

    Parameters
    ----------
    model : a float32 graph as `mixpriv.export.graphs.to_onnx` makes it; left as it is
    """
    mixed = onnx.ModelProto()
    mixed.CopyFrom(model)
    writer = _Writer(mixed.graph)
    for node in model.graph.node:
        writer.take(node)
    del mixed.graph.node[:]
    mixed.graph.node.extend(writer.nodes)
    del mixed.graph.value_info[:]  # they name the types of before
    _drop_dead_nodes(mixed.graph)
    onnx.checker.check_model(mixed, full_check=True)
    return mixed


class _Writer:
    """Writes a graph's nodes anew, in their order, and knows of which tensors there is an FP16 version."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._float = {name for name, tensor in self._weights.items() if tensor.data_type == TensorProto.FLOAT}
        self._half: dict[str, str] = {}
        self._sources = {name for name, tensor in self._weights.items() if tensor.data_type == TensorProto.FLOAT16}
        self._sources |= {i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.FLOAT16}

    def take(self, source: NodeProto) -> None:
        node = NodeProto()
        node.CopyFrom(source)
        if node.op_type == "Cast" and node.input[0] in self._sources and node.attribute[0].i == TensorProto.FLOAT:
            self._half[node.output[0]] = node.input[0]
            self.nodes.append(node)
        elif node.op_type in _HALF:
            self._convert(node, [self._in_half(name) for name in node.input])
        elif node.op_type in _MOVING and node.input[0] in self._half and self._all_in_half(node):
            self._convert(node, [self._half.get(name, name) for name in node.input])
        else:
            self.nodes.append(node)

    def _all_in_half(self, node: NodeProto) -> bool:
        """The second input of Reshape is its shape; all those of Concat are values."""
        return node.op_type != "Concat" or all(name in self._half for name in node.input)

    def _in_half(self, name: str) -> str:
        if name and name not in self._half:
            self._half[name] = f"{name}.half"
            if name in self._float:
                values = numpy_helper.to_array(self._weights[name]).astype("float16")
                self.graph.initializer.append(numpy_helper.from_array(values, self._half[name]))
            else:
                self.nodes.append(_cast(name, self._half[name], TensorProto.FLOAT16))
        return self._half.get(name, name)

    def _convert(self, node: NodeProto, inputs: list[str]) -> None:
        del node.input[:]
        node.input.extend(inputs)
        self.nodes.append(node)
        if node.op_type != "Shape":
            name = node.output[0]
            node.output[0] = self._half[name] = f"{name}.half"
            self.nodes.append(_cast(self._half[name], name, TensorProto.FLOAT))


def _cast(source: str, result: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}.cast", to=to)


def _drop_dead_nodes(graph: onnx.GraphProto) -> None:
    """Remove what no output needs: casts to float32 of what is only read in FP16, and weights no longer read."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    for field, values in ((graph.node, kept[::-1]), (graph.initializer, weights)):
        del field[:]
        field.extend(values)
