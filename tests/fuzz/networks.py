"""ONNX files with something wrong in them, for `tests.fuzz.bundles`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx
from numpy.random import Generator
from onnx import AttributeProto, TensorProto, helper

from mixpriv.engine.onnx_operators import OPERATORS


def other_bytes(data: bytes, random: Generator) -> bytes:
    """Some bytes changed, cut out, doubled or put in."""
    if not data:
        return b"x"
    start, length = int(random.integers(len(data))), int(random.integers(1, 64))
    part = data[start : start + length]
    new = [
        bytes([part[0] ^ 1 << int(random.integers(8))]) + part[1:],
        b"", part + part, part[::-1], random.bytes(length), b"\xff" * length, b"\0" * length, part + random.bytes(8),
    ]  # fmt: skip
    return data[:start] + new[int(random.integers(len(new)))] + data[start + length :]


def other_network(data: bytes, random: Generator) -> bytes:
    """A network with another operator, attribute, weight, shape or connection, or with what no network here has."""
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's errors are not public
        return data
    graph = model.graph
    node = graph.node[int(random.integers(len(graph.node)))] if graph.node else helper.make_node("Abs", ["x"], ["y"])
    changes = [_operator, _attribute, _connection, _weight, _shape, _strange, _more]
    changes[int(random.integers(len(changes)))](model, node, random)
    try:
        return bytes(model.SerializeToString())
    except Exception:  # text that is no UTF-8
        return data


def _operator(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    others = [
        *OPERATORS,
        "Loop",
        "If",
        "Scan",
        "Expand",
        "Tile",
        "ConstantOfShape",
        "Range",
        "ATen",
        "NonZero",
        "\x1b[m",
    ]
    node.op_type = str(random.choice(others))
    if random.random() < 0.1:
        node.domain = str(random.choice(["ai.onnx", "ai.onnx.ml", "com.microsoft", "org.pytorch.aten"]))


def _attribute(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    odd: list[Any] = [
        0, 1, -1, 2, 5, 2**31, 2**62, 0.5, float("nan"), "SAME_UPPER", [1, 1, 1], [2, 2, 2], [0], [-1] * 6, [2**40] * 3,
        [1000] * 6, [1.5, 2.5], helper.make_tensor("t", TensorProto.INT64, [2], [2**40, 2**40]),
    ]  # fmt: skip
    value = odd[int(random.integers(len(odd)))]
    if node.attribute and random.random() < 0.7:
        name = node.attribute[int(random.integers(len(node.attribute)))].name
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
    else:
        known = [
            "axis",
            "pads",
            "strides",
            "dilations",
            "group",
            "kernel_shape",
            "auto_pad",
            "output_shape",
            "body",
            "to",
        ]
        name = str(random.choice(known))
    node.attribute.append(helper.make_attribute(name, value))


def _connection(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    graph = model.graph
    names = ["", "nothing", *(t.name for t in graph.initializer), *(o for n in graph.node for o in n.output)]
    names += [port.name for port in (*graph.input, *graph.output)]
    field = node.input if random.random() < 0.8 else node.output
    if field and random.random() < 0.8:
        field[int(random.integers(len(field)))] = str(random.choice(names))
    else:
        field.append(str(random.choice(names)))


def _weight(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    tensor = model.graph.initializer[int(random.integers(len(model.graph.initializer)))]
    changes: list[Callable[[], Any]] = [
        lambda: tensor.dims.append(int(random.choice([0, 1, 2, -1, 2**40]))),
        lambda: tensor.dims.reverse(),
        lambda: setattr(tensor, "data_type", int(random.integers(0, 24))),
        lambda: setattr(tensor, "raw_data", tensor.raw_data[:-1]),
        lambda: setattr(tensor, "raw_data", b"\xff" * len(tensor.raw_data)),
        lambda: tensor.ClearField("raw_data"),
        lambda: tensor.external_data.add(key="location", value=str(random.choice(["_ORT_MEM_ADDR_", "/etc/passwd"]))),
        lambda: setattr(tensor, "data_location", 1),
        lambda: tensor.float_data.append(1.0),
        lambda: setattr(tensor, "name", str(random.choice(["mixture", "x0", "", "image"]))),
    ]
    changes[int(random.integers(len(changes)))]()


def _shape(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    ports = [*model.graph.input, *model.graph.output]
    port = ports[int(random.integers(len(ports)))]
    kind = port.type.tensor_type
    if random.random() < 0.3:
        kind.elem_type = int(random.integers(0, 20))
    elif kind.shape.dim and random.random() < 0.8:
        dim = kind.shape.dim[int(random.integers(len(kind.shape.dim)))]
        dim.dim_value = int(random.choice([-1, 0, 1, 2, 7, 64, 2**20, 2**62]))
    elif random.random() < 0.5:
        kind.shape.dim.add(dim_param="more")
    else:
        port.name = str(random.choice(["other", "\x1b[2J", "", "x" * 2000]))


def _strange(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    """What no parser may follow: loops, functions, other files, other operator sets."""
    graph = model.graph
    what = int(random.integers(7))
    if what == 0:
        body = helper.make_graph([], "body", [], [])
        node.attribute.append(helper.make_attribute("body", body))
    elif what == 1:
        model.functions.add(name="f", domain="d")
    elif what == 2:
        model.opset_import.add(domain="com.microsoft", version=1)
    elif what == 3:
        model.opset_import[0].version = int(random.choice([0, 1, 7, 13, 17, 21, 25, 2**40]))
    elif what == 4:
        graph.sparse_initializer.add()
    elif what == 5:
        model.ir_version = int(random.choice([0, 3, 4, 13, 14, 2**40]))
    else:
        node.attribute.append(AttributeProto(name="x", ref_attr_name="y", type=1))


def _more(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    """Nodes that make much of little, or a long chain."""
    graph = model.graph
    name = node.output[0] if node.output else "x"
    op = str(random.choice(["Concat", "Add", "Mul", "ConvTranspose", "Identity", "Exp", "Softmax", "Transpose"]))
    for i in range(int(random.choice([1, 5, 40]))):
        inputs = [name] if op in ("Identity", "Exp", "Softmax", "Transpose") else [name, name]
        extra = {"axis": int(random.integers(-2, 3))} if op in ("Concat", "Softmax") else {}
        graph.node.append(helper.make_node(op, inputs, [f"more{i}"], **extra))
        name = f"more{i}"
    if random.random() < 0.7 and graph.output:
        graph.node.append(helper.make_node("Identity", [name], ["last"]))
        graph.output[0].name = "last"


def other_parts(data: bytes, random: Generator) -> bytes:
    """A field of the wire format, at some depth, doubled, dropped, moved or of another number."""
    fields = list(_fields(data))
    if not fields:
        return other_bytes(data, random)
    index = int(random.integers(len(fields)))
    if random.random() < 0.7:  # where most is: the graph, its nodes and weights
        index = max(range(len(fields)), key=lambda i: len(fields[i][2]) * random.random())
    number, kind, value = fields[index]
    what = random.random()
    if kind == 2 and value and what < 0.8:
        fields[index] = (number, kind, other_parts(value, random))
    elif what < 0.85:
        fields.insert(int(random.integers(len(fields))), fields[index])
    elif what < 0.9:
        del fields[index]
    elif what < 0.95:
        fields[index] = (int(random.integers(1, 30)), kind, value)
    else:
        fields[index] = (number, 0, random.bytes(3) + b"\1")
    return b"".join(_encoded(*field) for field in fields)


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        start = at
        if tag & 7 == 0:
            _, at = _varint(data, at)
        elif tag & 7 == 2:
            size, start = _varint(data, at)
            at = start + size
        else:
            at += 4 if tag & 7 == 5 else 8
        if at > len(data):
            return
        yield tag >> 3, tag & 7, data[start:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            break
    return value, at


def _encoded(number: int, kind: int, value: bytes) -> bytes:
    return _number(number << 3 | kind) + (_number(len(value)) if kind == 2 else b"") + value


def _number(value: int) -> bytes:
    made = b""
    while value > 127:
        made += bytes([value & 127 | 128])
        value >>= 7
    return made + bytes([value])
