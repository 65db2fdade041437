"""The operators that a network may have, one a line, with the shape that each makes of those that it is given.

They are what `mixpriv.export` makes, and what segmentation networks of other makers have. None runs another graph, and
none makes much of little: with the shapes it is known before a runtime sees the network what it would cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.engine import onnx_shapes as shapes
from mixpriv.engine.onnx_shapes import SMALL, Attributes, Rule, Shape, Value, Values, of, require
from mixpriv.engine.onnx_wire import DTYPES, Tensor, WireError


@dataclass(frozen=True)
class Operator:
    """How an operator is called: the number of its inputs, its attributes, the shape of its output.

    Attributes
    ----------
    compute : its values, for shapes that are computed; None if it has no place among them and takes no whole numbers
    work : multiply-adds, from attributes, inputs and the output's shape; None for one for each element
    """

    inputs: tuple[int, int]
    attributes: str
    shape: Rule
    compute: Callable[[Attributes, list[NDArray[Any]]], Any] | None = None
    work: Callable[[Attributes, Values, Shape], int] | None = None


def _constant(attributes: Attributes, given: Values) -> Shape:
    raise WireError("a constant without a value")  # those with one are read before


def _kernel_work(attributes: Attributes, given: Values, made: Shape) -> int:
    """Of a convolution: each output needs a kernel of all the channels of its group."""
    return math.prod(made) * math.prod(given[1].shape[1:])


def _transposed_work(attributes: Attributes, given: Values, made: Shape) -> int:
    return max(given[0].size * math.prod(given[1].shape[1:]), math.prod(made))


def _pool_work(attributes: Attributes, given: Values, made: Shape) -> int:
    return math.prod(made) * math.prod(attributes["kernel_shape"])


def _divide(attributes: Attributes, given: list[NDArray[Any]]) -> Any:
    require(bool(np.all(given[1] > 0) and np.all(given[0] >= 0)), "a division that no shape needs")
    return given[0] // given[1] if given[0].dtype.kind == "i" else given[0] / given[1]


_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("alpha", "beta", "epsilon", "momentum"), float),
    **dict.fromkeys(("allowzero", "axis", "ceil_mode", "count_include_pad", "group", "keepdims", "to"), int),
    "training_mode": int,
    **dict.fromkeys(("axes", "dilations", "kernel_shape", "output_padding", "pads", "perm", "strides"), list),
    "value": Tensor,
}
"""What each attribute is; lists are of whole numbers."""

_INDEXED = ("Gather", "ReduceMean", "ReduceSum", "Reshape", "Slice", "Squeeze", "Unsqueeze")
"""Their inputs behind the first are places, axes or sizes."""

_WINDOW = "strides dilations pads"
_ONE, _TWO = (1, 1), (2, 2)
OPERATORS: Mapping[str, Operator] = {
    "Abs": Operator(_ONE, "", shapes.same_shape),
    "Add": Operator(_TWO, "", shapes.broadcast_shape, lambda a, g: g[0] + g[1]),
    "AveragePool": Operator(
        _ONE, f"kernel_shape {_WINDOW} ceil_mode count_include_pad", shapes.pool_shape, None, _pool_work
    ),
    "BatchNormalization": Operator((5, 5), "epsilon momentum training_mode", shapes.one_each_shape),
    "Cast": Operator(_ONE, "to", shapes.cast_shape, lambda a, g: g[0].astype(DTYPES[a["to"]])),
    "Ceil": Operator(_ONE, "", shapes.same_shape),
    "Clip": Operator((1, 3), "", shapes.limited_shape),
    "Concat": Operator((1, 1024), "axis", shapes.concat_shape, lambda a, g: np.concatenate(g, a["axis"])),
    "Constant": Operator((0, 0), "value", _constant),
    "Conv": Operator((2, 3), f"kernel_shape group {_WINDOW}", shapes.convolution_shape, None, _kernel_work),
    "ConvTranspose": Operator(
        (2, 3), f"kernel_shape group output_padding {_WINDOW}", shapes.transposed_shape, None, _transposed_work
    ),
    "Div": Operator(_TWO, "", shapes.broadcast_shape, _divide),
    "Elu": Operator(_ONE, "alpha", shapes.same_shape),
    "Erf": Operator(_ONE, "", shapes.same_shape),
    "Exp": Operator(_ONE, "", shapes.same_shape),
    "Floor": Operator(_ONE, "", shapes.same_shape),
    "Gather": Operator(_TWO, "axis", shapes.gather_shape, lambda a, g: np.take(g[0], g[1], a.get("axis", 0))),
    "GlobalAveragePool": Operator(_ONE, "", shapes.pool_all_shape),
    "HardSigmoid": Operator(_ONE, "alpha beta", shapes.same_shape),
    "HardSwish": Operator(_ONE, "", shapes.same_shape),
    "Identity": Operator(_ONE, "", shapes.same_shape, lambda a, g: g[0]),
    "InstanceNormalization": Operator((3, 3), "epsilon", shapes.one_each_shape),
    "LeakyRelu": Operator(_ONE, "alpha", shapes.same_shape),
    "LogSoftmax": Operator(_ONE, "axis", shapes.along_axis_shape),
    "Max": Operator(_TWO, "", shapes.broadcast_shape),
    "MaxPool": Operator(_ONE, f"kernel_shape {_WINDOW} ceil_mode", shapes.pool_shape, None, _pool_work),
    "Min": Operator(_TWO, "", shapes.broadcast_shape),
    "Mul": Operator(_TWO, "", shapes.broadcast_shape, lambda a, g: g[0] * g[1]),
    "Neg": Operator(_ONE, "", shapes.same_shape),
    "PRelu": Operator(_TWO, "", shapes.slope_shape),
    "Pow": Operator(_TWO, "", shapes.broadcast_shape),
    "ReduceMean": Operator((1, 2), "axes keepdims", shapes.reduce_shape),
    "ReduceSum": Operator((1, 2), "axes keepdims", shapes.reduce_shape),
    "Relu": Operator(_ONE, "", shapes.same_shape),
    "Reshape": Operator(
        _TWO, "allowzero", shapes.reshape_shape, lambda a, g: g[0].reshape(shapes.reshape_shape(a, [of(v) for v in g]))
    ),
    "Round": Operator(_ONE, "", shapes.same_shape),
    "Shape": Operator(_ONE, "", shapes.shape_of, lambda a, g: np.array(g[0].shape, np.int64)),
    "Sigmoid": Operator(_ONE, "", shapes.same_shape),
    "Slice": Operator((3, 5), "", shapes.slice_shape, lambda a, g: g[0][shapes.cuts([of(v) for v in g])]),
    "Softmax": Operator(_ONE, "axis", shapes.along_axis_shape),
    "Softplus": Operator(_ONE, "", shapes.same_shape),
    "Sqrt": Operator(_ONE, "", shapes.same_shape),
    "Squeeze": Operator(
        _TWO, "", shapes.squeeze_shape, lambda a, g: g[0].reshape(shapes.squeeze_shape(a, [of(v) for v in g]))
    ),
    "Sub": Operator(_TWO, "", shapes.broadcast_shape, lambda a, g: g[0] - g[1]),
    "Tanh": Operator(_ONE, "", shapes.same_shape),
    "Transpose": Operator(_ONE, "perm", shapes.transpose_shape, lambda a, g: np.transpose(g[0], a.get("perm"))),
    "Unsqueeze": Operator(
        _TWO, "", shapes.unsqueeze_shape, lambda a, g: g[0].reshape(shapes.unsqueeze_shape(a, [of(v) for v in g]))
    ),
}


def apply(op: str, attributes: Attributes, given: Values) -> tuple[Value, int]:
    """What an operator makes of its inputs, and its multiply-adds.

    Raises
    ------
    WireError
        it is not in the table, or is not called as it must be.
    """
    tensor = attributes.get("value")
    if op == "Constant" and isinstance(tensor, Tensor) and len(attributes) == 1 and not given:
        return Value(tensor.shape, tensor.dtype, True, tensor.data), 0
    operator = OPERATORS.get(op)
    if operator is None:
        raise WireError(f"operator {op}, which is none of those that a network here may have")
    try:
        require(operator.inputs[0] <= len(given) <= operator.inputs[1], "more or fewer inputs than it takes")
        _check_attributes(attributes, operator.attributes.split())
        dtype = _dtype(op, operator, attributes, given)
        shape = operator.shape(attributes, given)
        data = _data(op, operator, attributes, given, shape)
    except WireError as error:
        raise WireError(f"operator {op}: {error}") from None
    work = math.prod(shape) if operator.work is None else operator.work(attributes, given, shape)
    constant = op == "Shape" or all(value.constant for value in given)
    return Value(shape, dtype, constant, data), work


def _dtype(op: str, operator: Operator, attributes: Attributes, given: Values) -> np.dtype[Any]:
    """The element type that it makes; refuses types that a runtime would not expect, and might not check."""
    require(len(given) > 0, "no input")
    data, others = given[:1], given[1:]
    require(op not in _INDEXED or all(v.dtype == np.int64 for v in others), "places of another type than int64")
    same = op in _INDEXED or all(value.dtype == data[0].dtype for value in others)
    require(same, "inputs of different types")
    require(operator.compute is not None or data[0].dtype.kind == "f", "whole numbers where it takes none")
    if op == "Shape":
        return np.dtype(np.int64)
    return DTYPES[attributes["to"]] if op == "Cast" and attributes.get("to") in DTYPES else data[0].dtype


def _data(op: str, operator: Operator, attributes: Attributes, given: Values, shape: Shape) -> NDArray[Any] | None:
    """The values of a small constant that a shape may be computed of."""
    if op == "Shape":
        return np.array(given[0].shape, np.int64)
    arrays = [value.data for value in given if value.data is not None]
    if operator.compute is None or len(arrays) < len(given) or math.prod(shape) > SMALL:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(operator.compute(attributes, arrays))


def _check_attributes(attributes: Attributes, known: Sequence[str]) -> None:
    for name, value in attributes.items():
        require(name in known, "an attribute that it may not have")
        require(isinstance(value, _KINDS[name]), f"{name} of another type")
        require(not isinstance(value, list) or all(isinstance(n, int) for n in value), f"{name} of another type")
