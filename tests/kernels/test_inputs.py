"""What the kernels refuse, and how they say it: the argument, what was expected, what came, and no value."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mixpriv import _native, kernels
from mixpriv.errors import InputError

IMAGE = np.ones((3, 4, 5), np.float32)
MASK = np.ones((3, 4, 5), np.uint8)
BLOCKS = np.zeros((1, 6, 8, 10), np.float32)
CLASSES = np.ones((2, 3, 4, 5), np.float32)
ANSWER = np.ones((2, 3, 4, 5), np.uint8)
MATRIX = np.eye(4)[:3].copy()
UNALIGNED = np.frombuffer(bytes(4 * 60 + 1), np.uint8)[1:].view(np.float32).reshape(3, 4, 5)
OVERLAPPED = np.zeros((7, 3, 4, 5), np.float32)
OVERLAPPING = OVERLAPPED.view(np.uint8).ravel()
READ_ONLY = np.ones(6, np.float32)
READ_ONLY.flags.writeable = False


def mix(**changed: Any) -> object:
    arguments: dict[str, Any] = {
        "target": IMAGE,
        "target_mask": MASK,
        "target_range": (0.0, 2.0),
        "reference": IMAGE,
        "reference_mask": MASK,
        "weight": 0.5,
    }
    return kernels.mix(**(arguments | changed))


def resample(**changed: Any) -> object:
    arguments: dict[str, Any] = {"image": IMAGE, "matrix": MATRIX, "shape": (2, 2, 2)}
    return kernels.resample(**(arguments | changed))


Call = Callable[[], object]
BAD: dict[str, tuple[Call, str]] = {
    "list for an array": (
        lambda: mix(target=[[[1.0]]]),
        "target: expected a C-contiguous float32 array (any, any, any), got list",
    ),
    "another dtype": (
        lambda: mix(target=IMAGE.astype(np.float64)),
        "target: expected a C-contiguous float32 array (any, any, any), got float64 (3, 4, 5)",
    ),
    "another byte order": (
        lambda: mix(target=IMAGE.astype(">f4")),
        "target: expected a C-contiguous float32 array (any, any, any), got >f4 (3, 4, 5)",
    ),
    "another number of axes": (
        lambda: mix(target=IMAGE[0]),
        "target: expected a C-contiguous float32 array (any, any, any), got float32 (4, 5)",
    ),
    "transposed": (
        lambda: mix(target=IMAGE.T),
        "target: expected a C-contiguous float32 array (any, any, any), got float32 (5, 4, 3), not C-contiguous",
    ),
    "unaligned": (
        lambda: mix(target=UNALIGNED),
        "target: expected a C-contiguous float32 array (any, any, any), got float32 (3, 4, 5), not aligned, read-only",
    ),
    "empty": (
        lambda: mix(target=IMAGE[:0]),
        "target: expected a C-contiguous float32 array (any, any, any), got float32 (0, 4, 5)",
    ),
    "Boolean mask": (
        lambda: mix(target_mask=MASK.astype(bool)),
        "target_mask: expected a C-contiguous uint8 array (3, 4, 5), got bool (3, 4, 5)",
    ),
    "other shapes": (
        lambda: mix(reference=np.ones((3, 4, 6), np.float32)),
        "reference: expected a C-contiguous float32 array (3, 4, 5), got float32 (3, 4, 6)",
    ),
    "reference without mask": (
        lambda: mix(reference_mask=None),
        "reference_mask: expected a C-contiguous uint8 array (3, 4, 5), got NoneType",
    ),
    "no reference": (
        lambda: mix(reference=None),
        "reference: expected an array unless the weight is 1, got None",
    ),
    "weight above 1": (lambda: mix(weight=1.25), "weight: expected a number from 0 to 1"),
    "weight NaN": (lambda: mix(weight=np.nan), "weight: expected a number from 0 to 1"),
    "weight no number": (lambda: mix(weight="0.25"), "weight: expected a number, got str"),
    "range reversed": (
        lambda: mix(target_range=(3.5, 2.5)),
        "target_range: expected finite (lo, hi) with lo < hi",
    ),
    "range empty in float32": (
        lambda: mix(target_range=(1.0, 1.0 + 1e-12)),
        "target_range: expected finite (lo, hi) with lo < hi",
    ),
    "range too narrow to divide by": (
        lambda: mix(target_range=(0.0, 1e-44)),
        "target_range: expected finite (lo, hi) with lo < hi",
    ),
    "range NaN": (lambda: mix(target_range=(0, np.nan)), "target_range: expected finite (lo, hi) with lo < hi"),
    "range of three": (lambda: mix(target_range=(0, 1, 2)), "target_range: expected a pair of numbers, got tuple"),
    "range no numbers": (lambda: mix(target_range=(0, None)), "target_range: expected a number, got NoneType"),
    "range a scalar array": (
        lambda: mix(target_range=np.array(1.0)),
        "target_range: expected a pair of numbers, got float64 ()",
    ),
    "negative threads": (lambda: mix(threads=-2), "threads: expected a whole number from 0, got -2"),
    "fractional threads": (lambda: mix(threads=1.5), "threads: expected whole numbers, got float"),
    "empty mask": (
        lambda: kernels.robust_range(IMAGE, np.zeros_like(MASK)),
        "mask: expected at least one voxel inside, got none",
    ),
    "no voxels": (
        lambda: kernels.robust_range(IMAGE[:0]),
        "image: expected a C-contiguous float32 array with at least one element, got float32 (0, 4, 5)",
    ),
    "NaN and Inf": (
        lambda: kernels.robust_range(np.array([1, np.nan, -np.nan, np.inf, -np.inf, 3.4e38, -3.4e38], np.float32)),
        "image: expected finite values, got NaN or Inf in 4 of 7 voxels",
    ),
    "percentiles reversed": (
        lambda: kernels.robust_range(IMAGE, None, 50, 50),
        "lower_percent, upper_percent: expected 0 <= lower < upper <= 100",
    ),
    "label too large": (
        lambda: kernels.unpack(ANSWER, np.full_like(MASK, 3), 0.5),
        "reference_labels: expected labels below the number of classes, 3, got larger ones",
    ),
    "no weight to unmix": (lambda: kernels.unpack(ANSWER, MASK, 0.0), "weight: expected a number above 0, at most 1"),
    "weight to unmix above 1": (
        lambda: kernels.unpack(ANSWER, MASK, 1.25),
        "weight: expected a number above 0, at most 1",
    ),
    "weight to unmix NaN": (
        lambda: kernels.unpack(ANSWER, MASK, np.nan),
        "weight: expected a number above 0, at most 1",
    ),
    "labels of another shape": (
        lambda: kernels.unpack(ANSWER, MASK[:, :, :4].copy(), 0.5),
        "reference_labels: expected a C-contiguous uint8 array (3, 4, 5), got uint8 (3, 4, 4)",
    ),
    "result of another shape": (
        lambda: kernels.unpack(ANSWER, MASK, 0.5, out=IMAGE),
        "out: expected a writable C-contiguous float32 array (7, 3, 4, 5), got float32 (3, 4, 5)",
    ),
    "result over an argument": (
        lambda: kernels.unpack(OVERLAPPING[60:180].reshape(2, 3, 4, 5), MASK, 0.5, out=OVERLAPPED),
        "out: expected an array apart from answer and reference_labels, got one that overlaps them",
    ),
    "too many channels": (
        lambda: kernels.unpack(np.ones((255, 1, 1, 1), np.uint8), MASK, 0.5),
        "answer: expected at most 254 channels, got 255",
    ),
    "too many classes": (
        lambda: kernels.argmax(np.ones((256, 1, 1, 1), np.float32)),
        "probabilities: expected at most 255 classes, got 256",
    ),
    "no blocks": (
        lambda: kernels.unmix(CLASSES, None, 1.0),
        "correction: expected 8 channels for each of at most 255 classes, got 2",
    ),
    "blocks of another shape": (
        lambda: kernels.unmix(np.repeat(CLASSES, 4, axis=0), CLASSES, 1.0),
        "linear: expected a C-contiguous float32 array (1, 6, 8, 10), got float32 (2, 3, 4, 5)",
    ),
    "trust beyond float32": (
        lambda: kernels.unmix(np.repeat(CLASSES, 4, axis=0), None, 1e300),
        "trust: expected a finite number",
    ),
    "probabilities added to what they are made of": (
        lambda: kernels.unmix(np.repeat(CLASSES, 4, axis=0), BLOCKS, 1.0, total=BLOCKS),
        "total: expected an array apart from correction and linear, got one that overlaps them",
    ),
    "read-only total": (
        lambda: kernels.accumulate(READ_ONLY, READ_ONLY),
        "total: expected a writable C-contiguous float32 array with at least one element, got float32 (6,), read-only",
    ),
    "total of another shape": (
        lambda: kernels.accumulate(CLASSES, IMAGE),
        "probabilities: expected a C-contiguous float32 array (2, 3, 4, 5), got float32 (3, 4, 5)",
    ),
    "square matrix": (
        lambda: resample(matrix=np.eye(4)),
        "matrix: expected a C-contiguous float64 array (3, 4), got float64 (4, 4)",
    ),
    "NaN in the matrix": (
        lambda: resample(matrix=MATRIX * np.nan),
        "matrix: expected finite entries, below 1e30 in size",
    ),
    "Inf in the matrix": (
        lambda: kernels.restore_labels(CLASSES, MATRIX + np.inf, (2, 2, 2)),
        "matrix: expected finite entries, below 1e30 in size",
    ),
    "shape of two": (lambda: resample(shape=(2, 2)), "shape: expected three sizes, got tuple"),
    "shape with 0": (lambda: resample(shape=(2, 0, 2)), "shape: expected sizes from 1 to 2^31 - 1, got 0"),
    "fractional shape": (lambda: resample(shape=(2, 2.0, 2)), "shape: expected whole numbers, got float"),
    "enormous axis": (
        lambda: resample(shape=(2, 2, 2**31)),
        "shape: expected sizes from 1 to 2^31 - 1, got 2147483648",
    ),
    "enormous shape": (lambda: resample(shape=(2**30, 2**30, 4)), "shape: expected at most 2^40 voxels, got more"),
    "shape beyond 64 bits": (lambda: resample(shape=(2**70, 4, 4)), "shape: expected whole numbers, got int"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_refused_with_one_clear_line(call: Call, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda *a: kernels.robust_range(a[0], a[1]),
        lambda *a: kernels.mix(a[0], a[1], (0.0, 2.0), a[0], a[1], 0.5),
        lambda *a: kernels.unpack(a[3], a[1], 0.5),
        lambda *a: kernels.unmix(np.repeat(a[2], 4, axis=0), None, 1.0),
        lambda *a: kernels.argmax(a[2]),
        lambda *a: kernels.resample(a[0], a[4], (4, 4, 4)),
        lambda *a: kernels.restore_labels(a[2], a[4], (4, 4, 4)),
    ],
)
def test_inputs_may_be_read_only_and_stay_as_they_are(call: Callable[..., object]) -> None:
    given: tuple[NDArray[Any], ...] = (IMAGE, MASK, CLASSES, ANSWER, MATRIX)
    inputs = [array.copy() for array in given]
    for array in inputs:
        array.flags.writeable = False
    call(*inputs)
    for array, before in zip(inputs, given, strict=True):
        np.testing.assert_array_equal(array, before)


def test_unknown_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXPRIV_ISA", "avx1024")
    names = ", ".join(_native.available_isas())
    with pytest.raises(InputError, match=f"^MIXPRIV_ISA: expected one of {names} on this processor, got 'avx1024'$"):
        mix()


def test_fastest_instruction_set_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIXPRIV_ISA", raising=False)
    assert _native.isa() == _native.available_isas()[-1]


def other_thread_runs_meanwhile() -> bool:
    image = np.zeros((160, 160, 160), np.float32)
    started, events = threading.Event(), []

    def work() -> None:
        started.set()
        kernels.resample(image, MATRIX, (160, 160, 160), threads=1)
        events.append("kernel done")

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    events.append("other ran")
    thread.join()
    return events[0] == "other ran"


def test_gil_is_released() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60.0)  # nobody is made to give the GIL away
    try:
        assert any(other_thread_runs_meanwhile() for _ in range(5))  # a busy machine may wake us late
    finally:
        sys.setswitchinterval(interval)
