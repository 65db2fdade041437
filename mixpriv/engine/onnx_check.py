"""Judges an ONNX network before a runtime's parser sees it: what it may do, and what it would cost."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from mixpriv.engine.onnx_operators import apply
from mixpriv.engine.onnx_shapes import Value, require
from mixpriv.engine.onnx_wire import Declared, Graph, Reader, WireError
from mixpriv.errors import InputError, printable
from mixpriv.reading import read_file

MOST_BYTES = 2**28
_IR_VERSIONS = range(4, 17)
_OPSETS = range(13, 25)
_MOST_NODES = 4000
_SIZE = 64
"""Along each axis of the image with which the cost is found, where the network does not say."""

_MOST_LIVE = 512
"""Elements that exist at once, for each voxel; those of a large U-Net are 200."""

_MOST_WORK = 4_000_000
"""Multiply-adds for each voxel; those of the networks that ship are 100,000 at most."""


@dataclass(frozen=True)
class NamedPort:
    """A network's input or output, with an image of 64x64x64 voxels where it takes any size."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class Network:
    """What a network takes and what it answers; ``name``: of the network, for errors."""

    inputs: tuple[NamedPort, ...]
    outputs: tuple[NamedPort, ...]
    name: str
    _graph: Graph = field(repr=False)

    def answers(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
        """The shapes of what it answers to images of other shapes.

        A runtime need not find out that a shape does not fit: OpenVINO writes where it should not.

        Raises
        ------
        InputError
            it cannot be run on them, or at too high a cost.
        """
        try:
            return tuple(port.shape for port in _judge(self._graph, shapes)[1])
        except WireError as error:
            sizes = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise InputError(f"{self.name}: cannot be run on {sizes} ({printable(str(error))})") from None


def read_network(path: str | os.PathLike[str]) -> tuple[bytes, Network]:
    """Read an ONNX file and check it: what is checked is what a runtime is given.

    Raises
    ------
    InputError
        the file is missing or too large, or see `check_network`.
    """
    name = f"network {os.fspath(path)}"
    try:
        data = read_file(path, MOST_BYTES)
    except InputError as error:
        raise InputError(f"network {error}") from None
    return data, check_network(data, name)


def check_network(data: bytes, name: str) -> Network:
    """Refuse a network with operators that are not in the table, parts in other files, or too high a cost.

    Parameters
    ----------
    name : of the network, for errors

    Raises
    ------
    InputError
        naming what it is.
    """
    try:
        graph, opsets, version = Reader(data).graph()
        require(version in _IR_VERSIONS, f"version {version} of the format")
        require(len(opsets) == 1 and opsets[0][0] in ("", "ai.onnx"), "other than one operator set of ONNX's own")
        require(opsets[0][1] in _OPSETS, f"version {opsets[0][1]} of the operators")
        require(0 < len(graph.nodes) <= _MOST_NODES, f"{len(graph.nodes)} operations")
        ports = *graph.inputs, *graph.outputs
        require(0 < len(graph.inputs) <= 4 and 0 < len(graph.outputs) <= 4, f"{len(ports)} inputs and outputs")
        inputs, outputs = _judge(graph, {port.name: _probe(port) for port in graph.inputs})
        return Network(inputs, outputs, name, graph)
    except WireError as error:
        raise InputError(f"{name}: not a readable ONNX network ({printable(str(error))})") from None


def _judge(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[NamedPort, ...], tuple[NamedPort, ...]]:
    """What it takes and answers with images of these shapes; refuses what does not fit together or costs too much."""
    values = {tensor.name: Value(tensor.shape, tensor.dtype, True, tensor.data) for tensor in graph.constants}
    inputs = {port.name: Value(shapes[port.name], port.dtype) for port in graph.inputs}
    require(len(values) == len(graph.constants) and len(inputs) == len(graph.inputs), "a name that stands twice")
    require(not values.keys() & inputs.keys() and "" not in values.keys() | inputs.keys(), "a name that stands twice")
    voxels = max(value.shape[0] * math.prod(value.shape[2:]) for value in inputs.values())
    made = _run(graph, values | inputs, max(voxels, 2**15))
    outputs = []
    for port in graph.outputs:
        require(port.name in made and not made[port.name].constant, f"output {port.name}, which nothing makes")
        shape = made[port.name].shape
        fits = len(port.shape) == len(shape) and all(e in (None, n) for e, n in zip(port.shape, shape, strict=True))
        require(fits, f"output {port.name} of another shape than it says")
        require(made[port.name].dtype == port.dtype, f"output {port.name} of another type than it says")
        outputs.append(NamedPort(port.name, port.dtype.name, shape))
    taken = (NamedPort(port.name, port.dtype.name, inputs[port.name].shape) for port in graph.inputs)
    return tuple(taken), tuple(outputs)


def _probe(port: Declared) -> tuple[int, ...]:
    """The shape of the image with which the cost is found: what is not fixed is one image, of `_SIZE` voxels."""
    require(len(port.shape) == 5, f"input {port.name} of another rank than 5")
    require(all(size is None or size <= 1024 for size in port.shape), f"input {port.name} of an impossible shape")
    batch, *sizes = port.shape
    return (batch or 1, *(size or _SIZE for size in sizes))


def _run(graph: Graph, values: dict[str, Value], voxels: int) -> dict[str, Value]:
    """Every tensor's shape, by its name; refuses what takes too much memory or time."""
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    last |= {port.name: len(graph.nodes) for port in graph.outputs}
    stored = sum(value.size for value in values.values() if value.constant)
    live = sum(value.size for value in values.values() if not value.constant)
    computed = work = 0
    for index, node in enumerate(graph.nodes):
        require(
            len(node.outputs) == 1 and node.outputs[0] not in values, f"operator {node.op}: a name that stands twice"
        )
        require("" not in node.inputs or node.op == "Clip", f"operator {node.op}: an input is missing")
        given = [values.get(name) for name in node.inputs if name]
        require(None not in given, f"operator {node.op}: an input that nothing makes")
        value, effort = apply(node.op, node.attributes, [found for found in given if found is not None])
        values[node.outputs[0]] = value
        work += effort
        if value.constant:
            computed += value.size
        else:
            live += value.size
        require(
            live <= _MOST_LIVE * voxels and computed <= 2**20 + 4 * stored, "more memory than a network here may take"
        )
        require(work <= _MOST_WORK * voxels, "more work than a network here may do")
        live -= sum(
            values[name].size for name in set(node.inputs) - {""} if last[name] == index and not values[name].constant
        )
    return values
