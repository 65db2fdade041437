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

from mixpriv.engine.onnx_wire import DTYPES, Tensor, WireError

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
_SMALL = 64


@dataclass(frozen=True)
class Value:
    """What is known of a tensor: ``constant`` if it depends on no input but its shape, ``data`` if it is small, too."""

    shape: Shape
    constant: bool = False
    data: NDArray[Any] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


Values = Sequence[Value]
Rule = Callable[[Attributes, Values], Shape]


@dataclass(frozen=True)
class Operator:
    """How an operator is called: the number of its inputs, its attributes, the shape of its output.

    Attributes
    ----------
    compute : its values, for shapes that are computed; None if it has no place among them
    work : multiply-adds, from attributes, inputs and the output's shape; None for one for each element
    """

    inputs: tuple[int, int]
    attributes: str
    shape: Rule
    compute: Callable[[Attributes, list[NDArray[Any]]], Any] | None = None
    work: Callable[[Attributes, Values, Shape], int] | None = None


def require(condition: bool, what: str) -> None:
    """Refuse the network unless a condition holds."""
    if not condition:
        raise WireError(what)


def _axis(axis: Any, rank: int) -> int:
    require(axis is not None and -rank <= axis < rank, "an axis that does not exist")
    return int(axis) % rank


def _numbers(value: Value, most: int = 8) -> list[int]:
    """The whole numbers in a small constant tensor, such as a shape."""
    require(value.data is not None and value.data.dtype.kind == "i" and value.size <= most, "a shape made of data")
    return [int(n) for n in np.asarray(value.data).ravel()]


def _list(attributes: Attributes, name: str, length: int, default: int, least: int) -> list[int]:
    values: list[int] = attributes.get(name, [default] * length)
    require(len(values) == length and all(least <= n <= 1024 for n in values), f"{name} of other length or size")
    return values


def _same(attributes: Attributes, given: Values) -> Shape:
    return given[0].shape


def _broadcast(attributes: Attributes, given: Values) -> Shape:
    rank = max(len(value.shape) for value in given)
    padded = [(1,) * (rank - len(value.shape)) + value.shape for value in given]
    sizes = [set(axis) - {1} for axis in zip(*padded, strict=True)]
    require(all(len(size) <= 1 for size in sizes), "shapes that do not fit together")
    return tuple(size.pop() if size else 1 for size in sizes)


def _one_each(attributes: Attributes, given: Values) -> Shape:
    """A normalisation: every parameter has one value for each channel."""
    require(len(given[0].shape) >= 2, "a normalisation of another rank")
    require(all(value.shape == given[0].shape[1:2] for value in given[1:]), "parameters of another number of channels")
    require(attributes.get("training_mode", 0) == 0, "a normalisation in training")
    return given[0].shape


def _along_axis(attributes: Attributes, given: Values) -> Shape:
    _axis(attributes.get("axis", -1), len(given[0].shape))
    return given[0].shape


def _cast(attributes: Attributes, given: Values) -> Shape:
    require(attributes.get("to") in DTYPES, "a cast to an unknown type")
    return given[0].shape


def _windows(attributes: Attributes, size: Shape, kernel: Sequence[int]) -> Shape:
    n = len(size)
    strides, dilations, pads = (
        _list(attributes, "strides", n, 1, 1), _list(attributes, "dilations", n, 1, 1),
        _list(attributes, "pads", 2 * n, 0, 0),
    )  # fmt: skip
    made = tuple(
        (size[i] + pads[i] + pads[n + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in range(n)
    )
    require(all(m >= 1 for m in made), "a window larger than the image")
    return made


def _weights(attributes: Attributes, given: Values, axis: int) -> tuple[int, Shape]:
    """Groups and kernel of a convolution whose inputs fit together; ``axis``: of the weights, for the input channels."""
    data, weight = given[0].shape, given[1].shape
    group = attributes.get("group", 1)
    require(3 <= len(data) <= 5 and len(weight) == len(data), "a convolution of another rank")
    require(1 <= group <= data[1] and data[1] % group == 0, "groups that do not fit")
    require(weight[axis] * (group if axis == 1 else 1) == data[1], "weights of another number of channels")
    require(attributes.get("kernel_shape", list(weight[2:])) == list(weight[2:]), "a kernel of another shape")
    channels = weight[0] if axis == 1 else weight[1] * group
    require(channels % group == 0 and (len(given) < 3 or given[2].shape == (channels,)), "a bias of another shape")
    return channels, weight[2:]


def _convolution(attributes: Attributes, given: Values) -> Shape:
    channels, kernel = _weights(attributes, given, 1)
    return (given[0].shape[0], channels, *_windows(attributes, given[0].shape[2:], kernel))


def _transposed(attributes: Attributes, given: Values) -> Shape:
    channels, kernel = _weights(attributes, given, 0)
    size, n = given[0].shape[2:], len(kernel)
    strides, dilations, pads, more = (
        _list(attributes, "strides", n, 1, 1), _list(attributes, "dilations", n, 1, 1),
        _list(attributes, "pads", 2 * n, 0, 0), _list(attributes, "output_padding", n, 0, 0),
    )  # fmt: skip
    made = tuple(
        strides[i] * (size[i] - 1) + more[i] + dilations[i] * (kernel[i] - 1) + 1 - pads[i] - pads[n + i]
        for i in range(n)
    )
    require(all(m >= 1 for m in made), "a transposed convolution to nothing")
    return (given[0].shape[0], channels, *made)


def _pool(attributes: Attributes, given: Values) -> Shape:
    shape = given[0].shape
    require(3 <= len(shape) <= 5 and attributes.get("ceil_mode", 0) == 0, "a pooling of another kind")
    kernel = _list(attributes, "kernel_shape", len(shape) - 2, 0, 1)
    return (*shape[:2], *_windows(attributes, shape[2:], kernel))


def _pool_all(attributes: Attributes, given: Values) -> Shape:
    require(len(given[0].shape) >= 3, "a pooling of another kind")
    return (*given[0].shape[:2], *(1 for _ in given[0].shape[2:]))


def _shape_of(attributes: Attributes, given: Values) -> Shape:
    rank = len(given[0].shape)
    require(rank >= 1, "the shape of a single number")
    return (rank,)


def _gather(attributes: Attributes, given: Values) -> Shape:
    shape, axis = given[0].shape, _axis(attributes.get("axis", 0), len(given[0].shape))
    places = _numbers(given[1], _SMALL)  # of shapes and channels, not a table to look up
    require(all(-shape[axis] <= n < shape[axis] for n in places), "an index that does not exist")
    return (*shape[:axis], *given[1].shape, *shape[axis + 1 :])


def _concat(attributes: Attributes, given: Values) -> Shape:
    first = given[0].shape
    axis = _axis(attributes.get("axis"), len(first))
    for value in given:
        fits = len(value.shape) == len(first) and value.shape[:axis] == first[:axis]
        require(fits and value.shape[axis + 1 :] == first[axis + 1 :], "shapes that do not fit together")
    return (*first[:axis], sum(value.shape[axis] for value in given), *first[axis + 1 :])


def _cuts(given: Values) -> tuple[slice, ...]:
    shape, (starts, ends) = given[0].shape, (_numbers(value) for value in given[1:3])
    axes = _numbers(given[3]) if len(given) > 3 else list(range(len(starts)))
    steps = _numbers(given[4]) if len(given) > 4 else [1] * len(starts)
    require(len(starts) == len(ends) == len(axes) == len(steps), "a slice of another kind")
    cuts = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        require(step >= 1, "a slice backwards")
        cuts[_axis(axis, len(shape))] = slice(start, end, step)
    return tuple(cuts)


def _slice(attributes: Attributes, given: Values) -> Shape:
    shape = tuple(len(range(n)[cut]) for n, cut in zip(given[0].shape, _cuts(given), strict=True))
    require(all(n >= 1 for n in shape), "a slice of nothing")
    return shape


def _unsqueeze(attributes: Attributes, given: Values) -> Shape:
    axes = _numbers(given[1])
    rank = len(given[0].shape) + len(axes)
    require(rank <= 8, "too many axes")
    places = {_axis(axis, rank) for axis in axes}
    require(len(places) == len(axes), "an axis twice")
    rest = iter(given[0].shape)
    return tuple(1 if i in places else next(rest) for i in range(rank))


def _squeeze(attributes: Attributes, given: Values) -> Shape:
    shape = given[0].shape
    axes = {_axis(axis, len(shape)) for axis in _numbers(given[1])}
    require(all(shape[axis] == 1 for axis in axes), "an axis that is longer than 1")
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _reshape(attributes: Attributes, given: Values) -> Shape:
    wanted, source = _numbers(given[1]), given[0].shape
    require(attributes.get("allowzero", 0) == 0 or 0 not in wanted, "a shape with nothing in it")
    require(all(n or i < len(source) for i, n in enumerate(wanted)), "a shape that does not fit")
    wanted = [source[i] if n == 0 else n for i, n in enumerate(wanted)]
    require(all(n >= -1 for n in wanted) and wanted.count(-1) <= 1, "a shape that does not fit")
    rest = math.prod(n for n in wanted if n != -1)
    shape = tuple(given[0].size // rest if n == -1 else n for n in wanted)
    require(math.prod(shape) == given[0].size, "a shape that does not fit")
    return shape


def _transpose(attributes: Attributes, given: Values) -> Shape:
    shape = given[0].shape
    order = attributes.get("perm", list(range(len(shape)))[::-1])
    require(sorted(order) == list(range(len(shape))), "an order that does not fit")
    return tuple(shape[axis] for axis in order)


def _reduce(attributes: Attributes, given: Values) -> Shape:
    shape = given[0].shape
    axes = _numbers(given[1]) if len(given) > 1 else attributes.get("axes", range(len(shape)))
    places = {_axis(axis, len(shape)) for axis in axes}
    kept = attributes.get("keepdims", 1)
    return tuple(1 if i in places else n for i, n in enumerate(shape) if kept or i not in places)


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

_WINDOW = "strides dilations pads"
_ONE, _TWO = (1, 1), (2, 2)
OPERATORS: Mapping[str, Operator] = {
    "Add": Operator(_TWO, "", _broadcast, lambda a, g: g[0] + g[1]),
    "AveragePool": Operator(_ONE, f"kernel_shape {_WINDOW} ceil_mode count_include_pad", _pool, None, _pool_work),
    "BatchNormalization": Operator((5, 5), "epsilon momentum training_mode", _one_each),
    "Cast": Operator(_ONE, "to", _cast, lambda a, g: g[0].astype(DTYPES[a["to"]])),
    "Ceil": Operator(_ONE, "", _same),
    "Clip": Operator((1, 3), "", _same),
    "Concat": Operator((1, 1024), "axis", _concat, lambda a, g: np.concatenate(g, a["axis"])),
    "Constant": Operator((0, 0), "value", _constant),
    "Conv": Operator((2, 3), f"kernel_shape group {_WINDOW}", _convolution, None, _kernel_work),
    "ConvTranspose": Operator(
        (2, 3), f"kernel_shape group output_padding {_WINDOW}", _transposed, None, _transposed_work
    ),
    "Div": Operator(_TWO, "", _broadcast, _divide),
    "Elu": Operator(_ONE, "alpha", _same),
    "Erf": Operator(_ONE, "", _same),
    "Exp": Operator(_ONE, "", _same),
    "Floor": Operator(_ONE, "", _same),
    "Gather": Operator(_TWO, "axis", _gather, lambda a, g: np.take(g[0], g[1], a.get("axis", 0))),
    "GlobalAveragePool": Operator(_ONE, "", _pool_all),
    "HardSigmoid": Operator(_ONE, "alpha beta", _same),
    "HardSwish": Operator(_ONE, "", _same),
    "Identity": Operator(_ONE, "", _same, lambda a, g: g[0]),
    "InstanceNormalization": Operator((3, 3), "epsilon", _one_each),
    "LeakyRelu": Operator(_ONE, "alpha", _same),
    "LogSoftmax": Operator(_ONE, "axis", _along_axis),
    "Max": Operator(_TWO, "", _broadcast),
    "MaxPool": Operator(_ONE, f"kernel_shape {_WINDOW} ceil_mode", _pool, None, _pool_work),
    "Min": Operator(_TWO, "", _broadcast),
    "Mul": Operator(_TWO, "", _broadcast, lambda a, g: g[0] * g[1]),
    "Neg": Operator(_ONE, "", _same),
    "PRelu": Operator(_TWO, "", _broadcast),
    "Pow": Operator(_TWO, "", _broadcast),
    "ReduceMean": Operator((1, 2), "axes keepdims", _reduce),
    "ReduceSum": Operator((1, 2), "axes keepdims", _reduce),
    "Relu": Operator(_ONE, "", _same),
    "Reshape": Operator(_TWO, "allowzero", _reshape, lambda a, g: g[0].reshape(_reshape(a, [of(v) for v in g]))),
    "Round": Operator(_ONE, "", _same),
    "Shape": Operator(_ONE, "", _shape_of),
    "Sigmoid": Operator(_ONE, "", _same),
    "Slice": Operator((3, 5), "", _slice, lambda a, g: g[0][_cuts([of(v) for v in g])]),
    "Softmax": Operator(_ONE, "axis", _along_axis),
    "Softplus": Operator(_ONE, "", _same),
    "Sqrt": Operator(_ONE, "", _same),
    "Squeeze": Operator(_TWO, "", _squeeze, lambda a, g: g[0].reshape(_squeeze(a, [of(v) for v in g]))),
    "Sub": Operator(_TWO, "", _broadcast, lambda a, g: g[0] - g[1]),
    "Tanh": Operator(_ONE, "", _same),
    "Transpose": Operator(_ONE, "perm", _transpose),
    "Unsqueeze": Operator(_TWO, "", _unsqueeze, lambda a, g: g[0].reshape(_unsqueeze(a, [of(v) for v in g]))),
}


def of(data: NDArray[Any]) -> Value:
    """The value of a small constant."""
    return Value(data.shape, True, data)


def apply(op: str, attributes: Attributes, given: Values) -> tuple[Value, int]:
    """What an operator makes of its inputs, and its multiply-adds.

    Raises
    ------
    WireError
        it is not in the table, or is not called as it must be.
    """
    tensor = attributes.get("value")
    if op == "Constant" and isinstance(tensor, Tensor) and len(attributes) == 1 and not given:
        return Value(tensor.shape, True, tensor.data), 0
    operator = OPERATORS.get(op)
    if operator is None:
        raise WireError(f"operator {op}, which is none of those that a network here may have")
    try:
        require(operator.inputs[0] <= len(given) <= operator.inputs[1], "more or fewer inputs than it takes")
        _check_attributes(attributes, operator.attributes.split())
        shape = operator.shape(attributes, given)
    except WireError as error:
        raise WireError(f"operator {op}: {error}") from None
    constant, data = op == "Shape" or all(value.constant for value in given), None
    if op == "Shape":
        data = np.array(given[0].shape, np.int64)
    elif constant and operator.compute is not None and math.prod(shape) <= _SMALL:
        arrays = [value.data for value in given if value.data is not None]
        with np.errstate(all="ignore"):
            data = np.asarray(operator.compute(attributes, arrays)) if len(arrays) == len(given) else None
    work = math.prod(shape) if operator.work is None else operator.work(attributes, given, shape)
    return Value(shape, constant, data), work


def _check_attributes(attributes: Attributes, known: Sequence[str]) -> None:
    for name, value in attributes.items():
        require(name in known, "an attribute that it may not have")
        require(isinstance(value, _KINDS[name]), f"{name} of another type")
        require(not isinstance(value, list) or all(isinstance(n, int) for n in value), f"{name} of another type")
