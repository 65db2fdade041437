"""Whose arrays the CUDA kernels take and show, on which stream and device; and what they refuse, in which words."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mixpriv import cuda, kernels
from mixpriv.errors import DeviceError, InputError
from tests.kernels.definitions import Array

pytestmark = pytest.mark.usefixtures("device")

IMAGE = np.random.default_rng(0).random((3, 4, 5), np.float32)
MASK = np.ones((3, 4, 5), np.uint8)
MATRIX = np.eye(4)[:3].copy()


class Interface:
    """Another library's array that knows ``__cuda_array_interface__`` only, as Numba's."""

    def __init__(self, array: Any, **changed: Any) -> None:
        self.owner = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__ | changed


class Capsule:
    """Another library's array that knows DLPack only, of the old kind if told so."""

    def __init__(self, array: Any, *, old: bool = False, error: type[Exception] | None = None) -> None:
        self.owner, self.old, self.error = array, old, error
        self.streams: list[object] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.owner.__dlpack_device__()

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> object:
        if self.error:
            raise self.error("secret")
        if self.old and options:
            raise TypeError("unexpected keyword max_version")
        self.streams.append(stream)
        return self.owner.__dlpack__(stream=stream, **options)


class Nowhere:
    """DLPack's device of some kind that is not ours."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 7, 0


def mix(**changed: Any) -> Any:
    there = cuda.to_device(IMAGE)
    mask = cuda.to_device(MASK)
    arguments: dict[str, Any] = {
        "target": there,
        "target_mask": mask,
        "target_range": (0.0, 2.0),
        "reference": there,
        "reference_mask": mask,
        "weight": 0.5,
    }
    return kernels.mix(**(arguments | changed))


class TestForeignArrays:
    @pytest.mark.parametrize("wrap", [Interface, Capsule, lambda array: Capsule(array, old=True)])
    def test_are_taken_without_a_copy(self, wrap: Callable[[Any], Any]) -> None:
        total, more = cuda.to_device(IMAGE), cuda.to_device(IMAGE)
        cuda.accumulate(wrap(total), wrap(more))
        np.testing.assert_array_equal(total.copy_to_host(), IMAGE + IMAGE)

    def test_may_have_any_strides_along_axes_of_one_voxel(self) -> None:
        there = Interface(cuda.to_device(IMAGE[:1]), strides=(1000, 20, 4))
        assert cuda.robust_range(there, None, 0, 100) == (IMAGE[0].min(), IMAGE[0].max())

    def test_are_asked_for_the_stream_that_is_used(self) -> None:
        array = Capsule(cuda.to_device(IMAGE))
        cuda.robust_range(array)
        with cuda.stream(2):
            cuda.robust_range(array)
        assert array.streams == [1, 2]

    def test_strided_ones_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"^target: .*got float32 \(5, 4, 3\), not C-contiguous$"):
            mix(target=turned(cuda.to_device(IMAGE)))


class TestOurArrays:
    @pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
    def test_go_there_and_back(self, dtype: type) -> None:
        array = np.random.default_rng(1).integers(0, 200, (5, 1, 7)).astype(dtype)
        there = cuda.to_device(array)
        assert (there.shape, there.dtype, there.nbytes, len(there)) == (array.shape, array.dtype, array.nbytes, 5)
        np.testing.assert_array_equal(there.copy_to_host(), array)

    @pytest.mark.parametrize("wrap", [lambda array: array, Interface, Capsule])
    def test_flipped_axes_stay_so(self, wrap: Callable[[Any], Any]) -> None:
        flipped = IMAGE[::-1, :, ::-1]
        there = cuda.to_device(flipped)
        np.testing.assert_array_equal(there.copy_to_host(), flipped)
        np.testing.assert_array_equal(there[1:].copy_to_host(), flipped[1:])
        np.testing.assert_array_equal(cuda.resample(wrap(there), MATRIX, (3, 4, 5)).copy_to_host(), flipped)

    def test_larger_than_the_staging_blocks(self) -> None:
        array = np.random.default_rng(2).integers(0, 256, (3, 5 << 20), np.uint8)
        np.testing.assert_array_equal(cuda.to_device(array).copy_to_host(), array)

    def test_copies_have_their_own_memory(self) -> None:
        there = cuda.to_device(IMAGE[:, ::-1])
        copied = cuda.copy(there[1:])
        cuda.accumulate(*[cuda.copy(cuda.to_device(IMAGE))] * 2)
        np.testing.assert_array_equal(copied.copy_to_host(), IMAGE[1:, ::-1])
        assert 0 <= cuda.seconds(lambda: cuda.copy(there)) < 60

    def test_parts_share_their_memory(self) -> None:
        there = cuda.to_device(IMAGE)
        part = there[1:]
        np.testing.assert_array_equal(part.copy_to_host(), IMAGE[1:])
        cuda.accumulate(part, part)
        np.testing.assert_array_equal(there.copy_to_host(), np.concatenate([IMAGE[:1], 2 * IMAGE[1:]]))
        for bad in (slice(0, 0), slice(None, None, 2)):
            with pytest.raises(InputError, match=r"^slice: expected at least one of the first axis, step 1"):
                there[bad]

    def test_live_as_long_as_somebody_sees_them(self) -> None:
        part = cuda.to_device(IMAGE)[1:]
        capsule = cuda.to_device(IMAGE).__dlpack__(max_version=(1, 0))
        gc.collect()
        np.testing.assert_array_equal(part.copy_to_host(), IMAGE[1:])
        del capsule

    def test_show_themselves(self) -> None:
        there = cuda.to_device(IMAGE)
        facts = there.__cuda_array_interface__
        assert (facts["shape"], facts["typestr"], facts["version"], facts["stream"]) == ((3, 4, 5), "<f4", 3, 1)
        assert there.__dlpack_device__() == (2, 0)
        assert repr(there) == "DeviceArray(float32 (3, 4, 5), device 0)"

    @pytest.mark.parametrize("options", [{"copy": True}, {"dl_device": (1, 0)}])
    def test_are_not_copied_for_others(self, options: dict[str, Any]) -> None:
        with pytest.raises(BufferError, match="DeviceArray is shown"):
            cuda.to_device(IMAGE).__dlpack__(**options)


class TestDevices:
    def test_results_lie_where_the_first_array_does(self) -> None:
        if len(cuda.devices()) < 2:
            pytest.skip("needs two devices")
        before = cuda._extension().current_device()
        there = cuda.to_device(IMAGE, 1)
        moved = kernels.resample(there, MATRIX, (3, 4, 5))
        assert moved.device == there.device == 1  # type: ignore[attr-defined]
        assert cuda._extension().current_device() == before
        with pytest.raises(
            InputError, match=r"^probabilities: expected an array on device 1 like the first, got one on device 0$"
        ):
            cuda.accumulate(there, cuda.to_device(IMAGE, 0))

    def test_that_there_is_none_of(self) -> None:
        with pytest.raises(DeviceError, match=r"^cudaSetDevice: invalid device ordinal \(cudaErrorInvalidDevice\)$"):
            cuda.to_device(IMAGE, 99)

    def test_out_of_memory_is_an_error_and_nothing_else(self) -> None:
        there = cuda.to_device(IMAGE)
        with pytest.raises(DeviceError, match=r"out of memory \(cudaErrorMemoryAllocation\)$"):
            cuda.resample(there, MATRIX, (2**13, 2**13, 2**14))
        np.testing.assert_array_equal(cuda.resample(there, MATRIX, (3, 4, 5)).copy_to_host(), IMAGE)


class TestDispatch:
    def test_goes_by_the_first_array(self) -> None:
        ours = kernels.mix(IMAGE, MASK, (0.0, 2.0), IMAGE, MASK, 0.5)
        np.testing.assert_array_equal(mix().copy_to_host(), ours)
        assert kernels.robust_range(cuda.to_device(IMAGE), threads=1) == kernels.robust_range(IMAGE)

    def test_other_libraries_arrays_count(self) -> None:
        there = Interface(cuda.to_device(IMAGE))
        assert kernels.robust_range(there) == kernels.robust_range(IMAGE)  # type: ignore[arg-type]

    def test_all_arrays_lie_together(self) -> None:
        message = "expected an array on a CUDA device, got float32 (3, 4, 5) in the CPU's memory"
        with pytest.raises(InputError, match=f"^reference: {re.escape(message)}$"):
            mix(reference=IMAGE)
        with pytest.raises(InputError, match=r"^reference: expected a C-contiguous float32 array .*, got DeviceArray$"):
            mix(target=IMAGE, target_mask=MASK)


Call = Callable[[], object]
BAD: dict[str, tuple[Call, str]] = {
    "list": (lambda: cuda.argmax([[1.0]]), "probabilities: expected an array on a CUDA device, got list"),
    "dtype": (
        lambda: mix(reference=cuda.to_device(MASK)),
        "reference: expected a C-contiguous float32 array (3, 4, 5), got uint8 (3, 4, 5)",
    ),
    "shape": (
        lambda: mix(target_mask=cuda.to_device(MASK[1:])),
        "target_mask: expected a C-contiguous uint8 array (3, 4, 5), got uint8 (2, 4, 5)",
    ),
    "another library's dtype": (
        lambda: mix(target=Interface(cuda.to_device(IMAGE), typestr="<i4")),
        "target: expected a C-contiguous float32 array (any, any, any), got <i4 (3, 4, 5)",
    ),
    "empty": (
        lambda: mix(target=Interface(cuda.to_device(IMAGE), shape=(0, 4, 5))),
        "target: expected a C-contiguous float32 array (any, any, any), got float32 (0, 4, 5)",
    ),
    "read-only": (
        lambda: cuda.accumulate(read_only(cuda.to_device(IMAGE)), cuda.to_device(IMAGE)),
        "total: expected a writable C-contiguous float32 array with at least one element, "
        "got float32 (3, 4, 5), read-only",
    ),
    "an interface without a shape": (
        lambda: mix(target=Interface(cuda.to_device(IMAGE), shape=None)),
        "target: expected an array that describes itself, got Interface that does not",
    ),
    "an interface whose pointer is none": (
        lambda: mix(target=Interface(cuda.to_device(IMAGE), data=("here", False))),
        "target: expected an array that describes itself, got Interface that does not",
    ),
    "a device that is none": (
        lambda: cuda.argmax(Nowhere()),
        "probabilities: expected an array on a CUDA device, got Nowhere",
    ),
    "masked": (
        lambda: mix(target=Interface(cuda.to_device(IMAGE), mask=object())),
        "target: expected an array without a mask, got one with a mask",
    ),
    "a pointer to the CPU's memory": (
        lambda: mix(target=Interface(cuda.to_device(IMAGE), data=(IMAGE.ctypes.data, False))),
        "target: expected an array on a CUDA device, got Interface whose pointer no device knows",
    ),
    "DLPack that fails": (
        lambda: mix(target=Capsule(cuda.to_device(IMAGE), error=BufferError)),
        "target: expected an array that DLPack can share, got Capsule and BufferError",
    ),
    "flipped where it may not be": (
        lambda: mix(target=cuda.to_device(IMAGE[::-1])),
        "target: expected a C-contiguous float32 array (any, any, any), got float32 (3, 4, 5), axes flipped",
    ),
    "transposed where it may be flipped": (
        lambda: cuda.resample(turned(cuda.to_device(IMAGE)), MATRIX, (2, 2, 2)),
        "image: expected a C-contiguous float32 array (any, any, any), axes flipped or not, "
        "got float32 (5, 4, 3), not C-contiguous",
    ),
    "overlapping": (
        lambda: overlapping(cuda.to_device(IMAGE)),
        "probabilities: expected the total itself or an array apart from it, got one that overlaps it",
    ),
    "blocks larger than the image": (
        lambda: cuda.block_mean(cuda.to_device(IMAGE), (1, 5, 1)),
        "factors: expected at most the image's size, 4, got 5",
    ),
    "stream": (lambda: with_stream("7"), "stream: expected a CUDA stream or its handle, got str"),
    "weight": (lambda: mix(weight=2), "weight: expected a number from 0 to 1"),
    "range": (lambda: mix(target_range=(1.0, 1.0)), "target_range: expected finite (lo, hi) with lo < hi"),
    "no reference": (lambda: mix(reference=None), "reference: expected an array unless the weight is 1, got None"),
    "label too large": (
        lambda: cuda.unpack(cuda.to_device(MASK[None]), cuda.to_device(MASK * 2), 0.5),
        "reference_labels: expected labels below the number of classes, 2, got larger ones",
    ),
    "empty mask": (
        lambda: cuda.robust_range(cuda.to_device(IMAGE), cuda.to_device(MASK * 0)),
        "mask: expected at least one voxel inside, got none",
    ),
    "NaN and Inf": (
        lambda: cuda.robust_range(cuda.to_device(np.array([1, np.nan, -np.nan, np.inf, -np.inf, 3e38], np.float32))),
        "image: expected finite values, got NaN or Inf in 4 of 6 voxels",
    ),
    "matrix": (
        lambda: cuda.resample(cuda.to_device(IMAGE), MATRIX * np.nan, (2, 2, 2)),
        "matrix: expected finite entries, below 1e30 in size",
    ),
    "knots": (lambda: warp(knots=0.0), "control: expected a finite distance of control points above 0"),
    "too few control points": (
        lambda: warp(knots=1.0),
        "control: expected control points of at least (3, 6, 7, 8), got (3, 4, 4, 5)",
    ),
    "half a warp": (
        lambda: mix(warp=(cuda.to_device(IMAGE),)),
        "warp: expected None or a pair (control, knots), got tuple",
    ),
    "result of another dtype": (
        lambda: unpack(out=cuda.to_device(MASK)),
        "out: expected a writable C-contiguous float32 array (5, 3, 4, 5), got uint8 (3, 4, 5)",
    ),
    "result over an argument": (
        lambda: unpack_over_itself(cuda.to_device(np.ones((28, 3, 4, 5), np.uint8))),
        "out: expected an array apart from answer and reference_labels, got one that overlaps them",
    ),
    "to the device": (
        lambda: cuda.to_device(IMAGE.T),
        "array: expected a C-contiguous float32, float16 or uint8 NumPy array, axes flipped or not, "
        "got float32 (5, 4, 3), not C-contiguous",
    ),
}


def read_only(array: Any) -> Interface:
    pointer, _ = array.__cuda_array_interface__["data"]
    return Interface(array, data=(pointer, True))


def turned(array: Any) -> Interface:
    return Interface(array, shape=(5, 4, 3), strides=(4, 20, 80))


def overlapping(array: Any) -> None:
    cuda.accumulate(array[:2], array[1:])


def unpack(out: Any) -> object:
    return cuda.unpack(cuda.to_device(MASK[None]), cuda.to_device(MASK), 0.5, out=out)


def unpack_over_itself(memory: Any) -> object:
    out = Interface(memory, typestr="<f4", shape=(7, 3, 4, 5), strides=None)
    return cuda.unpack(memory[:2], cuda.to_device(MASK), 0.5, out=out)


def with_stream(stream: object) -> None:
    with cuda.stream(stream):
        pass


def warp(knots: float) -> object:
    control = np.zeros((3, 4, 4, 5), np.float32)
    return cuda.warp(cuda.to_device(IMAGE[None]), cuda.to_device(control), knots)


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_refused_with_one_clear_line(call: Call, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        call()


def test_inputs_stay_as_they_are() -> None:
    arrays: list[Array] = [IMAGE, MASK]
    there = [cuda.to_device(array) for array in arrays]
    cuda.mix(there[0], there[1], (0.0, 2.0), there[0], there[1], 0.5)
    for array, before in zip(there, arrays, strict=True):
        np.testing.assert_array_equal(array.copy_to_host(), before)
