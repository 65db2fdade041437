"""What shape each operator of a network makes of those that it is given, found without running anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.engine.onnx_wire import DTYPES, WireError

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
SMALL = 64


@dataclass(frozen=True)
class Value:
    """What is known of a tensor: ``constant`` if it depends on no input but its shape, ``data`` if it is small, too."""

    shape: Shape
    dtype: np.dtype[Any]
    constant: bool = False
    data: NDArray[Any] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


Values = Sequence[Value]
Rule = Callable[[Attributes, Values], Shape]


def of(data: NDArray[Any]) -> Value:
    """The value of a small constant."""
    return Value(data.shape, data.dtype, True, data)


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


def same_shape(attributes: Attributes, given: Values) -> Shape:
    """Element by element."""
    return given[0].shape


def limited_shape(attributes: Attributes, given: Values) -> Shape:
    """Element by element, between single constant numbers."""
    require(all(value.constant and value.size == 1 for value in given[1:]), "limits made of data")
    return given[0].shape


def broadcast_shape(attributes: Attributes, given: Values) -> Shape:
    """Element by element, sizes of 1 repeated."""
    rank = max(len(value.shape) for value in given)
    padded = [(1,) * (rank - len(value.shape)) + value.shape for value in given]
    sizes = [set(axis) - {1} for axis in zip(*padded, strict=True)]
    require(all(len(size) <= 1 for size in sizes), "shapes that do not fit together")
    return tuple(size.pop() if size else 1 for size in sizes)


def slope_shape(attributes: Attributes, given: Values) -> Shape:
    """Element by element with a slope that is repeated, but never the image for the slope's sake."""
    shape = broadcast_shape(attributes, given)
    require(given[1].constant and shape == given[0].shape, "a slope that does not fit")
    return shape


def one_each_shape(attributes: Attributes, given: Values) -> Shape:
    """A normalisation: every parameter has one value for each channel."""
    require(len(given[0].shape) >= 2, "a normalisation of another rank")
    fits = all(value.shape == given[0].shape[1:2] and value.constant for value in given[1:])
    require(fits, "parameters of another number of channels")
    require(attributes.get("training_mode", 0) == 0, "a normalisation in training")
    return given[0].shape


def along_axis_shape(attributes: Attributes, given: Values) -> Shape:
    """Along one axis, as a soft-max."""
    _axis(attributes.get("axis", -1), len(given[0].shape))
    return given[0].shape


def cast_shape(attributes: Attributes, given: Values) -> Shape:
    """Another element type."""
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
    """Output channels and kernel of a convolution whose inputs fit; ``axis``: the weights', for the input channels."""
    data, weight = given[0].shape, given[1].shape
    group = attributes.get("group", 1)
    require(3 <= len(data) <= 5 and len(weight) == len(data), "a convolution of another rank")
    require(all(value.constant for value in given[1:]), "weights made of data")
    require(1 <= group <= data[1] and data[1] % group == 0, "groups that do not fit")
    require(weight[axis] * (group if axis == 1 else 1) == data[1], "weights of another number of channels")
    require(attributes.get("kernel_shape", list(weight[2:])) == list(weight[2:]), "a kernel of another shape")
    channels = weight[0] if axis == 1 else weight[1] * group
    require(channels % group == 0 and (len(given) < 3 or given[2].shape == (channels,)), "a bias of another shape")
    return channels, weight[2:]


def convolution_shape(attributes: Attributes, given: Values) -> Shape:
    """A convolution: (N, C, ...) by (C', C / groups, ...)."""
    channels, kernel = _weights(attributes, given, 1)
    return (given[0].shape[0], channels, *_windows(attributes, given[0].shape[2:], kernel))


def transposed_shape(attributes: Attributes, given: Values) -> Shape:
    """A transposed convolution: (N, C, ...) by (C, C' / groups, ...)."""
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


def pool_shape(attributes: Attributes, given: Values) -> Shape:
    """One value for each window."""
    shape = given[0].shape
    require(3 <= len(shape) <= 5 and attributes.get("ceil_mode", 0) == 0, "a pooling of another kind")
    kernel = _list(attributes, "kernel_shape", len(shape) - 2, 0, 1)
    return (*shape[:2], *_windows(attributes, shape[2:], kernel))


def pool_all_shape(attributes: Attributes, given: Values) -> Shape:
    """One value for each channel."""
    require(len(given[0].shape) >= 3, "a pooling of another kind")
    return (*given[0].shape[:2], *(1 for _ in given[0].shape[2:]))


def shape_of(attributes: Attributes, given: Values) -> Shape:
    """The shape itself, as numbers."""
    rank = len(given[0].shape)
    require(rank >= 1, "the shape of a single number")
    return (rank,)


def gather_shape(attributes: Attributes, given: Values) -> Shape:
    """Some places along an axis."""
    shape, axis = given[0].shape, _axis(attributes.get("axis", 0), len(given[0].shape))
    places = _numbers(given[1], SMALL)  # of shapes and channels, not a table to look up
    require(all(-shape[axis] <= n < shape[axis] for n in places), "an index that does not exist")
    return (*shape[:axis], *given[1].shape, *shape[axis + 1 :])


def concat_shape(attributes: Attributes, given: Values) -> Shape:
    """One behind the other along an axis."""
    first = given[0].shape
    axis = _axis(attributes.get("axis"), len(first))
    for value in given:
        fits = len(value.shape) == len(first) and value.shape[:axis] == first[:axis]
        require(fits and value.shape[axis + 1 :] == first[axis + 1 :], "shapes that do not fit together")
    return (*first[:axis], sum(value.shape[axis] for value in given), *first[axis + 1 :])


def cuts(given: Values) -> tuple[slice, ...]:
    """What a slice takes of each axis."""
    shape, (starts, ends) = given[0].shape, (_numbers(value) for value in given[1:3])
    axes = _numbers(given[3]) if len(given) > 3 else list(range(len(starts)))
    steps = _numbers(given[4]) if len(given) > 4 else [1] * len(starts)
    require(len(starts) == len(ends) == len(axes) == len(steps), "a slice of another kind")
    cuts = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        require(step >= 1, "a slice backwards")
        cuts[_axis(axis, len(shape))] = slice(start, end, step)
    return tuple(cuts)


def slice_shape(attributes: Attributes, given: Values) -> Shape:
    """A part of it."""
    shape = tuple(len(range(n)[cut]) for n, cut in zip(given[0].shape, cuts(given), strict=True))
    require(all(n >= 1 for n in shape), "a slice of nothing")
    return shape


def unsqueeze_shape(attributes: Attributes, given: Values) -> Shape:
    """Axes of length 1 put in."""
    axes = _numbers(given[1])
    rank = len(given[0].shape) + len(axes)
    require(rank <= 8, "too many axes")
    places = {_axis(axis, rank) for axis in axes}
    require(len(places) == len(axes), "an axis twice")
    rest = iter(given[0].shape)
    return tuple(1 if i in places else next(rest) for i in range(rank))


def squeeze_shape(attributes: Attributes, given: Values) -> Shape:
    """Axes of length 1 taken out."""
    shape = given[0].shape
    axes = {_axis(axis, len(shape)) for axis in _numbers(given[1])}
    require(all(shape[axis] == 1 for axis in axes), "an axis that is longer than 1")
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def reshape_shape(attributes: Attributes, given: Values) -> Shape:
    """The same elements in another shape; 0 keeps a size, -1 is what is left."""
    wanted, source = _numbers(given[1]), given[0].shape
    require(attributes.get("allowzero", 0) == 0 or 0 not in wanted, "a shape with nothing in it")
    require(all(n or i < len(source) for i, n in enumerate(wanted)), "a shape that does not fit")
    wanted = [source[i] if n == 0 else n for i, n in enumerate(wanted)]
    require(all(n >= -1 for n in wanted) and wanted.count(-1) <= 1, "a shape that does not fit")
    rest = math.prod(n for n in wanted if n != -1)
    shape = tuple(given[0].size // rest if n == -1 else n for n in wanted)
    require(math.prod(shape) == given[0].size, "a shape that does not fit")
    return shape


def transpose_shape(attributes: Attributes, given: Values) -> Shape:
    """Its axes in another order."""
    shape = given[0].shape
    order = attributes.get("perm", list(range(len(shape)))[::-1])
    require(sorted(order) == list(range(len(shape))), "an order that does not fit")
    return tuple(shape[axis] for axis in order)


def reduce_shape(attributes: Attributes, given: Values) -> Shape:
    """One value for all along some axes."""
    shape = given[0].shape
    axes = _numbers(given[1]) if len(given) > 1 else attributes.get("axes", range(len(shape)))
    places = {_axis(axis, len(shape)) for axis in axes}
    kept = attributes.get("keepdims", 1)
    return tuple(1 if i in places else n for i, n in enumerate(shape) if kept or i not in places)
