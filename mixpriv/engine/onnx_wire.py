"""Reads the parts of an ONNX file that tell what it does, before a runtime's parser sees it; needs no ``onnx``.

An ONNX file is a protobuf message: fields of a number and a kind each. Only fields that our networks and their like
have are let through, each once where it may stand once, so that no other parser can read the same file differently.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.engine import onnx_fields as fields
from mixpriv.engine.onnx_fields import BYTES, FIXED32, MANY, ONCE, VARINT

_MOST_PARTS = 400_000
_SMALL = 64
"""Values of tensors of at most so many elements are read: they may be shapes."""

DTYPES: Mapping[int, np.dtype[Any]] = {
    1: np.dtype("float32"), 2: np.dtype("uint8"), 3: np.dtype("int8"), 6: np.dtype("int32"), 7: np.dtype("int64"),
    10: np.dtype("float16"), 11: np.dtype("float64"),
}  # fmt: skip
"""Element types by their numbers in ONNX."""


class WireError(ValueError):
    """The file is not an ONNX network of the kind that is let through; the text says why."""


@dataclass(frozen=True)
class Tensor:
    """A constant; ``data`` if it is small."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data: NDArray[Any] | None


@dataclass(frozen=True)
class Declared:
    """What a graph says of its input or output: sizes that are not fixed are None."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Node:
    """One operation."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass
class Graph:
    """The network: its operations in order."""

    nodes: list[Node] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)
    inputs: list[Declared] = field(default_factory=list)
    outputs: list[Declared] = field(default_factory=list)


class Reader:
    """Walks through a file's messages; counts their parts, so that no file takes long."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._parts = 0

    def graph(self) -> tuple[Graph, list[tuple[str, int]], int]:
        """The network, its operator sets (domain, version) and the version of its format."""
        model = self._message((0, len(self._data)), fields.MODEL, "model")
        if "graph" not in model:
            raise WireError("it has no graph")
        opsets = []
        for span in model.get("opset", ()):
            opset = self._message(span, fields.OPSET, "operator set")
            opsets.append((self._text(opset.get("domain")), opset.get("version", 0)))
        graph = self._message(model["graph"], fields.GRAPH, "graph")
        for span in graph.get("value", ()):  # runtimes may read them
            self._declared(span)
        return (
            Graph(
                [self._node(span) for span in graph.get("node", ())],
                [self._tensor(span) for span in graph.get("constant", ())],
                [self._declared(span) for span in graph.get("input", ())],
                [self._declared(span) for span in graph.get("output", ())],
            ),
            opsets,
            model.get("ir_version", 0),
        )

    def _node(self, span: tuple[int, int]) -> Node:
        found = self._message(span, fields.NODE, "node")
        if self._text(found.get("domain")) not in ("", "ai.onnx"):
            raise WireError(f"operator {self._text(found.get('op'))} of another domain")
        attributes: dict[str, Any] = {}
        for inner in found.get("attribute", ()):
            name, value = self._attribute(inner)
            if name in attributes:
                raise WireError("an attribute stands twice")
            attributes[name] = value
        inputs, outputs = (tuple(map(self._text, found.get(name, ()))) for name in ("input", "output"))
        return Node(self._text(found.get("op")), inputs, outputs, attributes)

    def _attribute(self, span: tuple[int, int]) -> tuple[str, Any]:
        found = self._message(span, fields.ATTRIBUTE, "attribute")
        name, kind = self._text(found.pop("name", None)), fields.ATTRIBUTE_TYPES.get(found.pop("type", 0), "")
        if not kind or any(other != kind for other in found):
            raise WireError(f"attribute {name} of an unknown type")
        value = found.get(kind)
        if kind == "s":
            value = self._text(value)
        elif kind == "t":
            value = self._tensor(value) if value else None
        elif kind == "i":
            value = value or 0
        elif kind == "f":
            value = value or 0.0
        else:
            value = value or []
        return name, value

    def _tensor(self, span: tuple[int, int]) -> Tensor:
        found = self._message(span, fields.TENSOR, "tensor")
        name, dtype = self._text(found.get("name")), DTYPES.get(found.get("type", 0))
        if found.get("location", 0) != 0:
            raise WireError("a tensor in another file")
        if dtype is None:
            raise WireError("a tensor of an unknown element type")
        shape = tuple(found.get("dims", ()))
        if len(shape) > 8 or any(not 1 <= n <= 2**31 for n in shape):
            raise WireError("a tensor of an impossible shape")
        count = 1
        for n in shape:
            count *= n
        kinds = [kind for kind in ("raw", "float_data", "int32_data", "int64_data") if kind in found]
        if len(kinds) != 1:
            raise WireError("a tensor without values, or with two kinds of them")
        return Tensor(name, dtype, shape, self._values(found[kinds[0]], kinds[0], dtype, count, shape))

    def _values(self, stored: Any, kind: str, dtype: np.dtype[Any], count: int, shape: tuple[int, ...]) -> Any:
        """A small tensor's values; of any, it is made sure that there are as many as its shape says."""
        if kind == "raw":
            if stored[1] - stored[0] != count * dtype.itemsize:
                raise WireError("a tensor with more or fewer values than its shape says")
            if count > _SMALL:
                return None
            return np.frombuffer(self._data, dtype, count, stored[0]).reshape(shape).copy()  # or it keeps the file
        fits = {"float_data": "f", "int64_data": "i"}.get(kind, "fiub")  # FP16 is stored as 32-bit integers
        if len(stored) != count or dtype.kind not in fits:
            raise WireError("a tensor with more or fewer values than its shape says, or of another kind")
        if count > _SMALL or kind == "int32_data":
            return None
        return np.array(stored).astype(dtype).reshape(shape)

    def _declared(self, span: tuple[int, int]) -> Declared:
        found = self._message(span, fields.VALUE, "input or output")
        kind = self._message(found.get("type"), fields.TYPE, "type")
        tensor = self._message(kind.get("tensor"), fields.TENSOR_TYPE, "tensor type")
        dtype = DTYPES.get(tensor.get("element", 0))
        if dtype is None or "shape" not in tensor:
            raise WireError("an input or output without an element type or a shape")
        dims = []
        for inner in self._message(tensor["shape"], fields.SHAPE, "shape").get("dim", ()):
            dim = self._message(inner, fields.DIM, "size")
            if "value" in dim and not ("symbol" not in dim and 1 <= dim["value"] <= 2**31):
                raise WireError("an input or output of an impossible size")
            dims.append(dim.get("value"))
        return Declared(self._text(found.get("name")), dtype, tuple(dims))

    def _message(self, span: tuple[int, int] | None, table: fields.Table, what: str) -> dict[str, Any]:
        """The fields of a message by name: numbers, and where in the file texts and messages begin and end."""
        found: dict[str, Any] = {}
        if span is None:
            return found
        for number, kind, value in self._parts_of(*span):
            entry = table.get(number)
            if entry is None:
                refused = fields.REFUSED.get((what, number), f"the unknown field {number} in a part '{what}'")
                raise WireError(f"it has {refused}")
            name, wanted, often = entry
            packed = kind == BYTES and wanted != BYTES and often is MANY
            if kind != wanted and not packed:
                raise WireError(f"field {number} in a part '{what}' is of another kind")
            if often is MANY:
                found.setdefault(name, []).extend(self._unpack(value, wanted) if packed else [value])
            elif often is ONCE:
                if name in found:
                    raise WireError(f"field {number} in a part '{what}' stands twice")
                found[name] = value
        return found

    def _parts_of(self, at: int, end: int) -> Iterator[tuple[int, int, Any]]:
        data, varint = self._data, self._varint
        while at < end:
            self._parts += 1
            if self._parts > _MOST_PARTS:
                raise WireError("too many parts")
            tag, at = varint(at, end)
            kind = tag & 7
            value: Any = None
            if kind == VARINT:
                value, at = varint(at, end)
                value = value - 2**64 if value >= 2**63 else value
            elif kind == BYTES:
                size, at = varint(at, end)
                value = (at, at + size)
                at += size
            elif kind == FIXED32:
                if at + 4 <= end:
                    value = struct.unpack_from("<f", data, at)[0]
                at += 4
            else:
                raise WireError("a field of an unknown kind")
            if at > end:
                raise WireError("it ends within a field")
            yield tag >> 3, kind, value

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 64:
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (2**64 - 1), at
            shift += 7
        raise WireError("it ends within a number")

    def _unpack(self, span: tuple[int, int], wanted: int) -> list[Any]:
        at, end = span
        if wanted == FIXED32:
            if (end - at) % 4:
                raise WireError("it ends within a number")
            return list(np.frombuffer(self._data, "<f4", (end - at) // 4, at).tolist())
        values: list[Any] = []
        while at < end:
            self._parts += 1
            if self._parts > _MOST_PARTS:
                raise WireError("too many parts")
            value, at = self._varint(at, end)
            values.append(value - 2**64 if value >= 2**63 else value)
        return values

    def _text(self, span: tuple[int, int] | None) -> str:
        if span is None:
            return ""
        raw = self._data[span[0] : span[1]]
        try:
            text = raw.decode("utf-8") if len(raw) <= 1000 else "\0"
        except UnicodeDecodeError:
            text = "\0"
        if not text.isprintable():
            raise WireError("a name that is no printable text")
        return text
