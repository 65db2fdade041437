"""The bindings under wrong arguments of every kind: an InputError of one line, never a crash, never another error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixpriv import kernels
from mixpriv.errors import InputError

SHAPE = (3, 4, 5)
FLOATS = np.linspace(0, 1, 60, dtype=np.float32).reshape(SHAPE)
BYTES = (np.arange(60) % 2).astype(np.uint8).reshape(SHAPE)
CLASSES = np.stack([FLOATS, 1 - FLOATS])
BLOCKS = np.zeros((2, 6, 8, 10), np.float32)
MATRIX = np.eye(4)[:3].copy()
CONTROL = np.zeros((3, 5, 5, 6), np.float32)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "robust_range": {"image": FLOATS, "mask": BYTES, "lower_percent": 1.0, "upper_percent": 99.0},
    "mix": {"target": FLOATS, "target_mask": BYTES, "target_range": (0.0, 1.0), "reference": FLOATS,
            "reference_mask": BYTES, "weight": 0.5, "warp": (CONTROL, 2.0)},
    "unpack": {"answer": np.stack([BYTES, BYTES]), "reference_labels": BYTES, "weight": 0.5},
    "unmix": {"correction": np.repeat(CLASSES, 8, axis=0), "linear": BLOCKS, "trust": 3.0, "total": BLOCKS.copy()},
    "accumulate": {"total": CLASSES.copy(), "probabilities": CLASSES},
    "argmax": {"probabilities": CLASSES},
    "resample": {"image": FLOATS, "matrix": MATRIX, "shape": SHAPE},
    "block_mean": {"image": FLOATS, "factors": (1, 2, 2)},
    "restore_labels": {"probabilities": CLASSES, "matrix": MATRIX, "shape": SHAPE, "mask": BYTES},
    "warp": {"channels": CLASSES, "control": CONTROL, "knots": 2.0, "fill_background": True},
    "warp_answer": {"answer": np.stack([BYTES, BYTES]), "control": CONTROL, "knots": 2.0},
    "invert_warp": {"control": CONTROL, "knots": 2.0, "shape": SHAPE},
    "warp_labels": {"labels": BYTES, "control": CONTROL, "knots": 2.0},
}  # fmt: skip


def spoilt(value: Any, how: str) -> Any:
    """The same argument, wrong in one way."""
    if isinstance(value, tuple) and isinstance(value[0], np.ndarray):
        return (spoilt(value[0], how), value[1])
    if not isinstance(value, np.ndarray):
        return {"dtype": "1", "shape": (value,), "strides": {}, "empty": [], "huge": 2**80, "object": object()}[how]
    return {
        "dtype": value.astype(np.complex64),
        "shape": value[..., :1].copy()[..., 0],
        "strides": np.repeat(value, 2, axis=-1)[..., ::2],
        "empty": value[:0],
        "huge": np.lib.stride_tricks.as_strided(value, (2**10,) * value.ndim, (0,) * value.ndim),
        "object": value.astype(object),
    }[how]


def test_every_kernel_takes_the_good_arguments() -> None:
    for name, arguments in ARGUMENTS.items():
        getattr(kernels, name)(**arguments)


@settings(max_examples=300)
@given(data=st.data())
def test_wrong_arguments_are_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ARGUMENTS)))
    arguments = dict(ARGUMENTS[name])
    wrong = data.draw(st.sampled_from(sorted(arguments)))
    how = data.draw(st.sampled_from(["dtype", "shape", "strides", "empty", "huge", "object"]))
    arguments[wrong] = spoilt(arguments[wrong], how)
    may_be_good = wrong == "fill_background" or (wrong, how) in {
        ("knots", "huge"),
        ("scale", "huge"),
        ("trust", "huge"),
    }
    try:
        getattr(kernels, name)(**arguments)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - what is refused, and that it may not be, is drawn
        return
    assert may_be_good, f"{name}: {wrong} was taken although its {how} is wrong"


WARP_REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "too few control points": (
        lambda: kernels.warp(CLASSES, CONTROL[:, :4].copy(), 2.0),
        r"control: expected control points of at least \(3, 5, 5, 6\), got \(3, 4, 5, 6\)",
    ),
    "knots 0": (lambda: kernels.warp(CLASSES, CONTROL, 0.0), "control: expected a finite distance of control points"),
    "knots NaN": (lambda: kernels.warp(CLASSES, CONTROL, np.nan), "control: expected a finite distance of control"),
    "knots tiny": (lambda: kernels.warp_labels(BYTES, CONTROL, 1e-300), "control: expected control points of at least"),
    "NaN": (lambda: kernels.warp(CLASSES, CONTROL * np.float32("nan"), 2.0), "control: expected finite displacements"),
    "points too near to invert": (
        lambda: kernels.invert_warp(CONTROL, 5e-324, (1, 1, 1)),
        "control: expected control points at least 1e-6 voxels apart",
    ),
    "too few points to invert": (
        lambda: kernels.invert_warp(CONTROL, 1.0, SHAPE),
        "control: expected control points of",
    ),
    "too long": (lambda: kernels.warp(CLASSES, CONTROL + np.float32(2**20), 2.0), "displacements below 2\\^20 voxels"),
    "in mix": (
        lambda: kernels.mix(FLOATS, BYTES, (0.0, 1.0), None, None, 1.0, warp=(CONTROL, -1.0)),
        "warp: expected a finite distance of control points above 0",
    ),
    "blocks too large": (
        lambda: kernels.block_mean(FLOATS, (1, 1, 6)),
        "factors: expected at most the image's size, 5",
    ),
}


@pytest.mark.parametrize(("call", "message"), WARP_REFUSALS.values(), ids=WARP_REFUSALS.keys())
def test_what_is_refused_is_said(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("shift", [-7, -1, 1, 7])
def test_accumulating_what_overlaps_in_part_is_refused(shift: int) -> None:
    memory = np.arange(40, dtype=np.float32)
    total, more = memory[8:28], memory[8 + shift : 28 + shift]
    with pytest.raises(InputError, match=r"^probabilities: expected the total itself or an array apart from it, got "):
        kernels.accumulate(total, more)
    np.testing.assert_array_equal(memory, np.arange(40))


def test_neighbouring_memory_is_no_overlap() -> None:
    memory = np.ones(40, np.float32)
    kernels.accumulate(memory[:20], memory[20:])
    assert memory.tolist() == [2.0] * 20 + [1.0] * 20
