"""ONNX networks put together at random of the operators that a network may have, mostly such as fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.random import Generator
from onnx import TensorProto, helper

from mixpriv.engine.onnx_operators import OPERATORS

Attributes = dict[str, Any]
_TARGETS = ([0, 0, -1, 4, 4], [1, 1, -1, 2, 2], [0, 0, 0, 0, 0], [-1], [1, -1, 1, 1, 8])
_SHARED = ((), (1,), (1, 1, 1, 1, 16), (16, 1, 16), (1, 2, 1, 1, 16, 1))


class _Growing:
    """A network that gets longer; ``channels``: of what it makes so far, as far as that is known."""

    def __init__(self, random: Generator) -> None:
        self.random, self.channels = random, 1
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def grow(self) -> None:
        op = str(self.random.choice([*OPERATORS, "Conv", "Conv", "ConvTranspose"]))
        self.wrong = int(self.random.random() < 0.1)
        more, attributes = self._call(op)
        given = [self.last, self.last] if op == "Concat" else [self.last, *more]
        self.nodes.append(helper.make_node(op, given, [f"v{len(self.nodes)}"], **attributes))

    @property
    def last(self) -> str:
        return self.nodes[-1].output[0] if self.nodes else "image"

    def _call(self, op: str) -> tuple[list[str], Attributes]:
        if op in ("Conv", "ConvTranspose", "AveragePool", "MaxPool"):
            return self._window(op)
        if op in ("InstanceNormalization", "BatchNormalization"):
            return [self._floats(self.channels + self.wrong) for _ in range(2 if op.startswith("I") else 4)], {}
        if OPERATORS[op].inputs == (2, 2) and op not in ("Gather", "Reshape", "Squeeze", "Unsqueeze"):
            return [self._floats(*_SHARED[self._number(0, len(_SHARED))])], {}
        return self._rearranged(op)

    def _window(self, op: str) -> tuple[list[str], Attributes]:
        kernel = [int(k) for k in self.random.integers(1, 4, 3)]
        attributes: Attributes = {"strides": [int(k) for k in self.random.choice([1, 1, 2], 3)]}
        if op.endswith("Pool"):
            return [], attributes | {"kernel_shape": kernel}
        made = int(self.random.choice([1, 2, 4]))
        order = (made, self.channels) if op == "Conv" else (self.channels, made)
        self.channels = made + self.wrong
        return [self._floats(*order, *kernel)], attributes | {"pads": [int(k) for k in self.random.integers(0, 3, 6)]}

    def _rearranged(self, op: str) -> tuple[list[str], Attributes]:
        if op == "Concat":
            axis = int(self.random.choice([0, 1, 1, 2, -1]))
            self.channels *= 1 + (axis == 1)
            return [], {"axis": axis}
        if op == "Slice":
            return [self._ints([int(n)]) for n in self.random.choice([0, 1, 2, -1, 2**40], 4)], {}
        if op == "Gather":
            return [self._ints([self._number(0, 2) for _ in range(self._number(1, 4))])], {}
        if op == "Reshape":
            return [self._ints(_TARGETS[self._number(0, len(_TARGETS))])], {}
        if op in ("Squeeze", "Unsqueeze", "ReduceSum", "ReduceMean"):
            return [self._ints([self._number(-2, 6)])], {}
        if op == "Transpose":
            return [], {"perm": [int(k) for k in self.random.permutation(5)]}
        if op == "Cast":
            return [], {"to": int(self.random.choice([1, 1, 10, 6, 7, 2, 9, 11]))}
        return [], {}

    def _number(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high))

    def _floats(self, *shape: int) -> str:
        return self._constant(self.random.normal(size=shape).astype(np.float32))

    def _ints(self, values: list[int]) -> str:
        return self._constant(np.array(values, np.int64))

    def _constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name


def grown_network(random: Generator) -> bytes:
    """An extractor of up to eight operators."""
    growing = _Growing(random)
    for _ in range(int(random.integers(1, 9))):
        growing.grow()
    nodes = [*growing.nodes, helper.make_node("Sigmoid", [growing.last], ["brain_probability"])]
    graph = helper.make_graph(
        nodes,
        "grown",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, "D", "H", "W"])],
        [helper.make_tensor_value_info("brain_probability", TensorProto.FLOAT, ["a", "b", "c", "d", "e"])],
        growing.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())
