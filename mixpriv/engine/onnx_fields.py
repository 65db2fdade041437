"""The fields of an ONNX file, by their numbers: those that our networks and their like have. All others are refused.

Not among them, so refused: graphs inside nodes, functions, tensors in other files, sparse tensors, training.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

VARINT, BYTES, FIXED32 = 0, 2, 5
"""How the wire format stores a field."""


class Kind(Enum):
    """How often a field may stand in a message, and whether it is read."""

    ONCE = 1
    MANY = 2
    SKIP = 3


ONCE, MANY, SKIP = Kind

Table = Mapping[int, tuple[str, int, Kind]]
MODEL: Table = {
    1: ("ir_version", VARINT, ONCE), 2: ("producer", BYTES, SKIP), 3: ("producer version", BYTES, SKIP),
    4: ("domain", BYTES, SKIP), 5: ("model version", VARINT, SKIP), 6: ("text", BYTES, SKIP), 7: ("graph", BYTES, ONCE),
    8: ("opset", BYTES, MANY), 14: ("metadata", BYTES, SKIP),
}  # fmt: skip
OPSET: Table = {1: ("domain", BYTES, ONCE), 2: ("version", VARINT, ONCE)}
GRAPH: Table = {
    1: ("node", BYTES, MANY), 2: ("name", BYTES, SKIP), 5: ("constant", BYTES, MANY), 10: ("text", BYTES, SKIP),
    11: ("input", BYTES, MANY), 12: ("output", BYTES, MANY), 13: ("value", BYTES, MANY), 16: ("metadata", BYTES, SKIP),
}  # fmt: skip
NODE: Table = {
    1: ("input", BYTES, MANY), 2: ("output", BYTES, MANY), 3: ("name", BYTES, SKIP), 4: ("op", BYTES, ONCE),
    5: ("attribute", BYTES, MANY), 6: ("text", BYTES, SKIP), 7: ("domain", BYTES, ONCE), 9: ("metadata", BYTES, SKIP),
}  # fmt: skip
ATTRIBUTE: Table = {
    1: ("name", BYTES, ONCE), 2: ("f", FIXED32, ONCE), 3: ("i", VARINT, ONCE), 4: ("s", BYTES, ONCE),
    5: ("t", BYTES, ONCE), 7: ("floats", FIXED32, MANY), 8: ("ints", VARINT, MANY), 13: ("text", BYTES, SKIP),
    20: ("type", VARINT, ONCE),
}  # fmt: skip
TENSOR: Table = {
    1: ("dims", VARINT, MANY), 2: ("type", VARINT, ONCE), 4: ("float_data", FIXED32, MANY),
    5: ("int32_data", VARINT, MANY), 7: ("int64_data", VARINT, MANY), 8: ("name", BYTES, ONCE), 9: ("raw", BYTES, ONCE),
    12: ("text", BYTES, SKIP), 14: ("location", VARINT, ONCE),
}  # fmt: skip
VALUE: Table = {
    1: ("name", BYTES, ONCE),
    2: ("type", BYTES, ONCE),
    3: ("text", BYTES, SKIP),
    4: ("metadata", BYTES, SKIP),
}
TYPE: Table = {1: ("tensor", BYTES, ONCE)}
TENSOR_TYPE: Table = {1: ("element", VARINT, ONCE), 2: ("shape", BYTES, ONCE)}
SHAPE: Table = {1: ("dim", BYTES, MANY)}
DIM: Table = {1: ("value", VARINT, ONCE), 2: ("symbol", BYTES, ONCE), 3: ("text", BYTES, SKIP)}
ATTRIBUTE_TYPES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}

REFUSED: Mapping[tuple[str, int], str] = {
    ("model", 20): "a training",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse tensors",
    ("attribute", 6): "a graph inside an operator, as a loop has",
    ("attribute", 11): "graphs inside an operator",
    ("tensor", 13): "a tensor in another file or in memory",
}
"""What some of the fields are that are not let through, by the message and their number."""
