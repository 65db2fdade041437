"""Networks are judged before a runtime's parser sees them: what they may do, and what they would cost."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mixpriv import engine
from mixpriv.bundle import load_bundle, shipped_bundles
from mixpriv.engine.onnx_check import check_network, read_network
from mixpriv.engine.onnx_operators import OPERATORS
from mixpriv.errors import InputError
from tests.support.toybundle import write_toy_bundle

SHAPE = (1, 4, 8, 8, 8)


def network(
    *nodes: NodeProto, constants: dict[str, np.ndarray] | None = None, rank: int = 5, shape: tuple = SHAPE
) -> ModelProto:
    """A network from x, of a fixed shape, to y."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"n{i}" for i in range(rank)])],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def node(op: str, *inputs: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs or ["x"], ["y"], **attributes)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


KERNEL = {"w": floats(6, 2, 3, 1, 2), "b": floats(6)}
CALLS: list[tuple[str, dict, dict]] = [
    *((name, {}, {}) for name in (
        "Abs", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "GlobalAveragePool", "HardSigmoid", "HardSwish",
        "Identity", "LeakyRelu", "LogSoftmax", "Neg", "ReduceMean", "Relu", "Round", "Sigmoid", "Softmax", "Softplus",
        "Sqrt", "Tanh", "Transpose",
    )),
    *((name, {"c": floats(4, 1, 1, 8)}, {}) for name in ("Add", "Div", "Max", "Min", "Mul", "Pow", "PRelu", "Sub")),
    ("AveragePool", {}, {"kernel_shape": [2, 3, 2], "strides": [2, 1, 2], "pads": [0, 1, 0, 0, 1, 0]}),
    ("BatchNormalization", {name: floats(4) for name in "abcd"}, {}),
    ("Cast", {}, {"to": TensorProto.FLOAT}),
    ("Concat", {"c": floats(1, 3, 8, 8, 8)}, {"axis": -4}),
    ("Conv", KERNEL, {"group": 2, "strides": [2, 1, 1], "pads": [1, 0, 1, 0, 0, 0], "dilations": [1, 1, 2]}),
    ("ConvTranspose", {"w": floats(4, 3, 2, 2, 3), "b": floats(6)},
     {"group": 2, "strides": [2, 1, 2], "pads": [0, 1, 0, 1, 0, 0], "output_padding": [1, 0, 1]}),
    ("Gather", {"i": ints(2, -1)}, {"axis": 1}),
    ("InstanceNormalization", {"s": floats(4), "b": floats(4)}, {"epsilon": 1e-5}),
    ("MaxPool", {}, {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}),
    ("ReduceMean", {"axes": ints(2, -1)}, {"keepdims": 1}),
    ("ReduceSum", {"axes": ints(2, 3)}, {"keepdims": 0}),
    ("Reshape", {"s": ints(0, 2, -1, 8)}, {}),
    ("Slice", {"s": ints(1, -9), "e": ints(2**63 - 1, -1), "a": ints(1, -1), "t": ints(2, 3)}, {}),
    ("Squeeze", {"a": ints(0)}, {}),
    ("Transpose", {}, {"perm": [0, 2, 3, 4, 1]}),
    ("Unsqueeze", {"a": ints(1, -1)}, {}),
]  # fmt: skip


class TestShapes:
    @pytest.mark.parametrize(("op", "constants", "attributes"), CALLS, ids=lambda value: value if str(value) else "")
    def test_are_those_of_the_runtime(self, op: str, constants: dict, attributes: dict, tmp_path: Path) -> None:
        call = node(op, "x", *constants, **attributes)
        rank = {"Reshape": 4, "Squeeze": 4, "Unsqueeze": 7, "ReduceSum": 3}.get(op, 5)
        path = tmp_path / "network.onnx"
        onnx.save(network(call, constants=constants, rank=rank), path)
        _, judged = read_network(path)
        answer = engine.load(path, threads=1)(x=floats(*SHAPE))["y"]
        assert judged.outputs[0].shape == answer.shape

    def test_every_operator_is_compared(self) -> None:
        # these two make what the others of the toy networks' and the shipped ones' shapes are made of
        assert {op for op, _, _ in CALLS} | {"Constant", "Shape"} == OPERATORS.keys()

    def test_may_be_computed_from_the_inputs_shape(self, tmp_path: Path) -> None:
        steps = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "two"], ["depth"], axis=0),
            helper.make_node("Div", ["depth", "two"], ["half"]),
            helper.make_node("Unsqueeze", ["half", "zero"], ["part"]),
            helper.make_node("Concat", ["start", "part", "end"], ["wanted"], axis=0),
            node("Reshape", "x", "wanted"),
        ]
        constants = {"two": np.array(2), "zero": ints(0), "start": ints(1, 4), "end": ints(2, 64)}
        onnx.save(network(*steps, constants=constants), tmp_path / "n.onnx")
        assert read_network(tmp_path / "n.onnx")[1].outputs[0].shape == (1, 4, 4, 2, 64)


def loop() -> ModelProto:
    """One that never ends: ORT and OpenVINO run it, deaf to SIGTERM."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    constants = {"most": np.array(2**62), "go": np.array(True)}
    return network(helper.make_node("Loop", ["most", "go", "x"], ["y"], body=body), constants=constants)


def external(location: str) -> ModelProto:
    """One that reads its weights from elsewhere: another file, or this process' memory."""
    model = network(node("Add", "x", "c"), constants={"c": floats(1)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "4096"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return model


def changed(change: Callable[[ModelProto], object], *nodes: NodeProto) -> ModelProto:
    model = network(*(nodes or (node("Add", "x", "c"),)), constants={"c": floats(4, 1, 1, 1)})
    change(model)
    return model


def doubling(op: str, start: str, count: int) -> ModelProto:
    """Nodes that each make twice as much of what the one before made."""
    names = [start, *(f"v{i}" for i in range(count - 1)), "y"]
    extra = {"axis": 1} if op == "Concat" else {}
    nodes = [helper.make_node(op, [a, a], [b], **extra) for a, b in itertools.pairwise(names)]
    last = helper.make_node("Add", ["y", "x"], ["z"])
    model = network(*nodes, last, constants={"c": floats(1, 1, 8, 8, 8)})
    model.graph.output[0].name = "z"
    return model


def heavy() -> ModelProto:
    """80 convolutions of 54,000 multiply-adds for each voxel."""
    names = ["x", *(f"v{i}" for i in range(79)), "y"]
    nodes = [helper.make_node("Conv", [a, "w"], [b], pads=[7] * 6) for a, b in itertools.pairwise(names)]
    return network(*nodes, constants={"w": floats(4, 4, 15, 15, 15)}, shape=(1, 4, 32, 32, 32))


def by_attribute(kind: int, **value: object) -> AttributeProto:
    attribute = AttributeProto(name="axis", type=kind)
    for name, content in value.items():
        setattr(attribute, name, content)
    return attribute


BAD: dict[str, tuple[ModelProto, str]] = {
    "endless loop": (loop(), "it has a graph inside an operator"),
    "memory of this process": (external("*/_ORT_MEM_ADDR_/*"), "it has a tensor in another file or in memory"),
    "another file": (external("../../etc/passwd"), "it has a tensor in another file or in memory"),
    "location alone": (
        changed(lambda m: setattr(m.graph.initializer[0], "data_location", 1)), "a tensor in another file"
    ),
    "operator that repeats": (network(node("Tile", "x", "r"), constants={"r": ints(9, 9, 9, 9, 9)}), "operator Tile, "),
    "no such operator": (network(node("Evil\x1b[2J")), "a name that is no printable text"),
    "another domain": (network(node("Relu", domain="com.microsoft")), "operator Relu of another domain"),
    "function": (changed(lambda m: m.functions.add(name="f", domain="d")), "it has functions of its own"),
    "training": (changed(lambda m: m.training_info.add()), "it has a training"),
    "sparse weight": (changed(lambda m: m.graph.sparse_initializer.add()), "it has sparse tensors"),
    "second operator set": (
        changed(lambda m: m.opset_import.add(domain="ai.onnx.ml", version=3)), "other than one operator set"
    ),
    "old operator set": (changed(lambda m: setattr(m.opset_import[0], "version", 7)), "version 7 of the operators"),
    "no format": (changed(lambda m: m.ClearField("ir_version")), "version 0 of the format"),
    "weight cut off": (
        changed(lambda m: setattr(m.graph.initializer[0], "raw_data", b"123")), "more or fewer values than its shape"
    ),
    "huge weight": (changed(lambda m: m.graph.initializer[0].dims.extend([2**31] * 3)), "more or fewer values than"),
    "negative size": (changed(lambda m: m.graph.initializer[0].dims.append(-1)), "a tensor of an impossible shape"),
    "odd type": (changed(lambda m: setattr(m.graph.initializer[0], "data_type", 8)), "an unknown element type"),
    "two kinds of values": (changed(lambda m: m.graph.initializer[0].float_data.append(1)), "two kinds of them"),
    "unknown input": (network(node("Add", "x", "nothing")), "operator Add: an input that nothing makes"),
    "circle": (network(node("Add", "x", "y")), "operator Add: an input that nothing makes"),
    "name twice": (
        network(helper.make_node("Relu", ["x"], ["y"]), node("Exp")), "operator Exp: a name that stands twice"
    ),
    "input twice": (changed(lambda m: m.graph.input.add().CopyFrom(m.graph.input[0])), "a name that stands twice"),
    "rank": (network(node("Relu"), shape=(8, 8), rank=2), "input x of another rank than 5"),
    "huge input": (network(node("Relu"), shape=(1, 1, 2**20, 2**20, 2)), "input x of an impossible shape"),
    "output of another shape": (
        changed(lambda m: m.graph.output[0].type.tensor_type.shape.dim[1].CopyFrom(
            onnx.TensorShapeProto.Dimension(dim_value=5))), "output y of another shape than it says",
    ),
    "unknown output": (changed(lambda m: setattr(m.graph.output[0], "name", "z")), "output z, which nothing makes"),
    "doubles voxels": (doubling("Concat", "x", 40), "more memory"),
    "doubles a constant": (doubling("Concat", "c", 40), "more memory"),
    "outer product": (
        network(
            helper.make_node("Mul", ["a", "b"], ["m"]), helper.make_node("ReduceMean", ["m"], ["one"]),
            node("Add", "x", "one"), constants={"a": floats(1, 2**16), "b": floats(2**16, 1)},
        ), "more memory",
    ),
    "too much work": (heavy(), "more work"),
    "grows by padding": (
        network(node("Conv", "x", "w", pads=[1000] * 6), constants={"w": floats(1, 4, 1, 1, 1)}), "more memory"
    ),
    "window of nothing": (
        network(node("Conv", "x", "w"), constants={"w": floats(1, 4, 9, 9, 9)}), "a window larger than the image"
    ),
    "negative padding": (
        network(node("Conv", "x", "w", pads=[-1] * 6), constants={"w": floats(1, 4, 1, 1, 1)}), "pads of other length"
    ),
    "padding by name": (
        network(node("Conv", "x", "w", auto_pad="SAME_UPPER"), constants={"w": floats(1, 4, 1, 1, 1)}),
        "an attribute that it may not have",
    ),
    "channels": (network(node("Conv", "x", "w"), constants={"w": floats(1, 3, 1, 1, 1)}), "number of channels"),
    "shape made of data": (
        network(helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Reshape", "x", "i")),
        "a shape made of data",
    ),
    "attribute of another type": (network(node("Softmax", axis=1.5)), "axis of another type"),
    "attribute of two types": (
        changed(lambda m: m.graph.node[0].attribute.append(by_attribute(2, i=1, f=1.0)), node("Softmax")),
        "attribute axis of an unknown type",
    ),
    "whole numbers": (
        network(helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64), helper.make_node("Clip", ["i"], ["c"]),
                helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT)), "operator Clip: whole numbers where",
    ),
    "different types": (
        network(node("Add", "x", "c"), constants={"c": np.float64(1)}), "operator Add: inputs of different types"
    ),
    "weights made of data": (network(node("Conv", "x", "x"), shape=(1, 1, 8, 8, 8)), "weights made of data"),
    "slope larger than the image": (
        network(node("PRelu", "x", "s"), constants={"s": floats(2, 4, 8, 8, 8)}), "a slope that does not fit"
    ),
    "limits made of data": (network(node("Clip", "x", "x")), "limits made of data"),
    "axis": (network(node("Softmax", axis=7)), "an axis that does not exist"),
    "division by nothing": (
        network(helper.make_node("Div", ["a", "b"], ["c"]), node("Reshape", "x", "c"),
                constants={"a": ints(1), "b": ints(0)}), "operator Div: ",
    ),
}  # fmt: skip


class TestRefusal:
    @pytest.mark.parametrize("name", BAD)
    def test_in_one_line_that_says_why(self, name: str, tmp_path: Path) -> None:
        model, message = BAD[name]
        path = tmp_path / "bad.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(
            InputError, match=rf"bad\.onnx: not a readable ONNX network \(.*{re.escape(message)}"
        ) as found:
            engine.load(path)
        assert str(found.value).isprintable()

    def test_of_a_second_graph_that_another_parser_would_merge(self, tmp_path: Path) -> None:
        first = network(node("Relu")).SerializeToString()
        second = ModelProto(graph=loop().graph).SerializeToString()
        (tmp_path / "n.onnx").write_bytes(first + second)
        with pytest.raises(InputError, match="field 7 in a part 'model' stands twice"):
            engine.load(tmp_path / "n.onnx")

    def test_of_more_parts_than_any_network_has(self) -> None:
        data = network(*(helper.make_node("Relu", ["x"], [f"r{i}"]) for i in range(120_000))).SerializeToString()
        with pytest.raises(InputError, match="too many parts"):
            check_network(data, "n")

    @pytest.mark.parametrize("cut", [1, 10, 100, 1000])
    def test_of_a_file_that_is_cut_off(self, cut: int, tmp_path: Path) -> None:
        bundle = write_toy_bundle(tmp_path)
        data = bundle.segmenter_path.read_bytes()[:-cut]
        with pytest.raises(InputError, match="segmenter: not a readable ONNX network"):
            check_network(data, "segmenter")

    def test_of_an_output_of_another_type_than_it_says(self, tmp_path: Path) -> None:
        model = network(helper.make_node("Cast", ["x"], ["y"], to=TensorProto.UINT8))
        onnx.save(model, tmp_path / "n.onnx")
        with pytest.raises(InputError, match=r"n\.onnx: .*output y of another type than it says"):
            engine.load(tmp_path / "n.onnx")


class TestOtherSizes:
    """A graph that fits together with one image need not do so with another."""

    @staticmethod
    def load(tmp_path: Path) -> engine.Engine:
        model = network(node("Reshape", "x", "s"), constants={"s": ints(0, 4, -1, 8, 8)}, shape=("N", 4, "D", "H", "W"))
        onnx.save(model, tmp_path / "n.onnx")
        return engine.load(tmp_path / "n.onnx", threads=1)

    def test_that_fit_are_run(self, tmp_path: Path) -> None:
        loaded = self.load(tmp_path)
        for size in (16, 32, 16):
            assert loaded(x=floats(1, 4, 16, 16, size))["y"].shape == (1, 4, 4 * size, 8, 8)

    def test_that_do_not_fit_are_refused_before_a_runtime_writes_beyond_them(self, tmp_path: Path) -> None:
        loaded = self.load(tmp_path)
        with pytest.raises(
            InputError, match=r"n\.onnx: cannot be run on x \[1, 4, 3, 5, 7\] \(operator Reshape: a shape"
        ):
            loaded(x=floats(1, 4, 3, 5, 7))


@pytest.mark.parametrize("name", shipped_bundles())
def test_what_ships_is_read(name: str) -> None:
    for path in sorted(load_bundle(name).directory.glob("*.onnx")):
        read_network(path)
