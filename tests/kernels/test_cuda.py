"""Every CUDA kernel against its definition: on a GPU (``-m gpu``), and emulated on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixpriv import cuda, kernels
from tests.kernels import definitions as numpy_is
from tests.kernels.definitions import Array
from tests.kernels.test_mix import bits
from tests.kernels.test_mix import example as mixing
from tests.kernels.test_resample import blobs, random_matrix
from tests.kernels.test_unpack import example as unpacking

pytestmark = pytest.mark.usefixtures("device")

SEEDS = st.integers(0, 2**32)
SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
KNOTS = st.sampled_from([0.3, 1.0, 2.5, 7.0, 16.0])
LARGE = (13, 37, 140)  # several blocks, and tiles of a row
few = settings(max_examples=30)


def put(*arrays: Array | None) -> list[Any]:
    return [None if array is None else cuda.to_device(np.ascontiguousarray(array)) for array in arrays]


def bend(rng: np.random.Generator, shape: tuple[int, ...], knots: float, size: float = 1.5) -> Array:
    """Control points for a volume, some of them more than need be."""
    points = [n + int(rng.integers(0, 3)) for n in numpy_is.control_shape(shape, knots)]
    return rng.normal(0, size, (3, *points)).astype(np.float32)


class TestRobustRange:
    @few
    @given(SEEDS, SHAPES, st.tuples(st.floats(0, 100), st.floats(0, 100)).filter(lambda e: e[0] < e[1]), st.booleans())
    def test_is_the_exact_percentile(
        self, seed: int, shape: tuple[int, ...], ends: tuple[float, float], masked: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        image = (rng.normal(0, 1, shape) * 10.0 ** rng.integers(-30, 30)).astype(np.float32)
        mask = rng.integers(0, 3, shape, np.uint8) if masked else None
        if mask is not None:
            mask.flat[0] = 1
        got = cuda.robust_range(*put(image, mask), *ends)
        span = float(np.ptp(image.astype(np.float64)))
        np.testing.assert_allclose(got, numpy_is.robust_range(image, mask, *ends), rtol=1e-12, atol=1e-11 * span)

    @given(hnp.arrays(np.float32, 37, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
    def test_takes_any_finite_float(self, image: Array) -> None:
        got = cuda.robust_range(*put(image), None, 25, 50)  # of 37 voxels: whole ranks
        np.testing.assert_array_equal(got, numpy_is.robust_range(image, None, 25, 50))

    def test_mostly_zero(self) -> None:
        rng = np.random.default_rng(0)
        image = np.where(rng.random((40, 41, 42)) < 0.9, 0, rng.normal(300, 100, (40, 41, 42))).astype(np.float32)
        np.testing.assert_allclose(
            cuda.robust_range(*put(image)), numpy_is.robust_range(image, None, 0.5, 99.5), rtol=1e-12
        )


class TestMix:
    @few
    @given(SEEDS, SHAPES, st.floats(0, 1))
    def test_is_the_definition_bit_by_bit(self, seed: int, shape: tuple[int, ...], weight: float) -> None:
        target, target_mask, reference, reference_mask = mixing(seed, shape)
        expected = numpy_is.mix(target, target_mask, (3.0, 700.0), reference, reference_mask, weight)
        x, x_mask, r, r_mask = put(target, target_mask, reference, reference_mask)
        got = cuda.mix(x, x_mask, (3.0, 700.0), r, r_mask, weight).copy_to_host()
        np.testing.assert_array_equal(bits(got), bits(expected))

    @given(
        target=hnp.arrays(np.float32, 37, elements=st.floats(width=32)),
        reference=hnp.arrays(np.float32, 37, elements=st.floats(width=32)),
        weight=st.floats(0, 1),
    )
    def test_takes_any_float(self, target: Array, reference: Array, weight: float) -> None:
        x, r, mask = target[None, None], reference[None, None], np.ones((1, 1, 37), np.uint8)
        expected = numpy_is.mix(x, mask, (-3.0, 5.0), r, mask, weight)
        a, b, inside = put(x, r, mask)
        np.testing.assert_array_equal(cuda.mix(a, inside, (-3.0, 5.0), b, inside, weight).copy_to_host(), expected)

    def test_without_reference_and_of_many_blocks(self) -> None:
        target, mask, _, _ = mixing(1, LARGE)
        expected = numpy_is.mix(target, mask, (10.0, 800.0), None, None, 1.0)
        x, inside = put(target, mask)
        np.testing.assert_array_equal(cuda.mix(x, inside, (10.0, 800.0), None, None, 1.0).copy_to_host(), expected)

    @pytest.mark.parametrize("offset", [1, 2, 4, 5])
    def test_where_vectors_would_not_be_aligned(self, offset: int) -> None:
        arrays = mixing(2, (1 + 8, 3, 5))
        expected = numpy_is.mix(
            arrays[0][offset:], arrays[1][offset:], (0.0, 900.0), arrays[2][offset:], arrays[3][offset:], 0.3
        )
        x, x_mask, r, r_mask = (array[offset:] for array in put(*arrays))
        got = cuda.mix(x, x_mask, (0.0, 900.0), r, r_mask, 0.3).copy_to_host()
        np.testing.assert_array_equal(bits(got), bits(expected))

    @few
    @given(SEEDS, st.one_of(SHAPES, st.just(LARGE)), KNOTS, st.booleans())
    def test_warped(self, seed: int, shape: tuple[int, ...], knots: float, alone: bool) -> None:
        rng = np.random.default_rng(seed)
        target, target_mask, reference, reference_mask = mixing(seed, shape)
        control = bend(rng, shape, knots)
        x, x_mask, r, r_mask, points = put(target, target_mask, reference, reference_mask, control)
        if alone:
            expected, certain = numpy_is.mix_warped(target, target_mask, (3.0, 700.0), None, None, 1.0, control, knots)
            got = cuda.mix(x, x_mask, (3.0, 700.0), None, None, 1.0, warp=(points, knots)).copy_to_host()
        else:
            expected, certain = numpy_is.mix_warped(
                target, target_mask, (3.0, 700.0), reference, reference_mask, 0.4, control, knots
            )
            got = cuda.mix(x, x_mask, (3.0, 700.0), r, r_mask, 0.4, warp=(points, knots)).copy_to_host()
        np.testing.assert_allclose(got[certain], expected[certain], atol=2**-12 + 1e-4)


class TestUnpack:
    @few
    @given(SEEDS, SHAPES, st.integers(2, 9), st.floats(1e-30, 1))
    def test_is_the_definition_bit_by_bit(self, seed: int, shape: tuple[int, ...], classes: int, weight: float) -> None:
        answer, labels = unpacking(seed, shape, classes)
        got = cuda.unpack(*put(answer, labels), weight).copy_to_host()
        np.testing.assert_array_equal(got.view(np.uint32), numpy_is.unpack(answer, labels, weight).view(np.uint32))

    def test_into_memory_that_is_given(self) -> None:
        answer, labels = unpacking(2, (5, 6, 7), 4)
        out = cuda.to_device(np.full((9, 5, 6, 7), np.nan, np.float32))
        assert cuda.unpack(*put(answer, labels), 0.3, out=out) is out
        np.testing.assert_array_equal(out.copy_to_host(), numpy_is.unpack(answer, labels, 0.3))

    @pytest.mark.parametrize(("classes", "shape"), [(6, LARGE), (255, (3, 5, 7))])
    def test_many_voxels_and_many_classes(self, classes: int, shape: tuple[int, int, int]) -> None:
        answer, labels = unpacking(3, shape, classes)
        got = cuda.unpack(*put(answer, labels), 0.25).copy_to_host()
        np.testing.assert_array_equal(got, numpy_is.unpack(answer, labels, 0.25))


class TestClasses:
    @given(SEEDS, st.integers(1, 6), SHAPES)
    def test_first_of_equal_classes_wins(self, seed: int, classes: int, shape: tuple[int, ...]) -> None:
        p = np.random.default_rng(seed).integers(-1, 2, (classes, *shape)).astype(np.float32)
        np.testing.assert_array_equal(cuda.argmax(*put(p)).copy_to_host(), p.argmax(axis=0))

    @pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (6, *LARGE), (255, 2, 3, 4)])
    def test_whole_volumes(self, shape: tuple[int, ...]) -> None:
        total, more = np.random.default_rng(0).random((2, *shape), np.float32)
        there, added = put(total, more)
        cuda.accumulate(there, added)
        np.testing.assert_array_equal(there.copy_to_host(), total + more)
        np.testing.assert_array_equal(cuda.argmax(there).copy_to_host(), (total + more).argmax(axis=0))


class TestResample:
    @few
    @given(SEEDS, SHAPES, SHAPES)
    def test_is_scipys(self, seed: int, size: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
        rng = np.random.default_rng(seed)
        image = rng.normal(0, 1, size).astype(np.float32)
        matrix = random_matrix(rng, size, shape)
        expected, certain = numpy_is.resample(image, matrix, shape)
        got = cuda.resample(*put(image), matrix, shape).copy_to_host()
        np.testing.assert_allclose(got[certain], expected[certain], atol=3e-6)

    @few
    @given(SEEDS, SHAPES, st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.sampled_from([1, -1])] * 3))
    def test_block_mean_of_flipped_images(
        self, seed: int, blocks: tuple[int, ...], factors: tuple[int, int, int], steps: tuple[int, ...]
    ) -> None:
        rng = np.random.default_rng(seed)
        shape = [n * f + int(rng.integers(0, f)) for n, f in zip(blocks, factors, strict=True)]
        image = rng.normal(0, 1, shape).astype(np.float32)[tuple(slice(None, None, step) for step in steps)]
        got = cuda.block_mean(cuda.to_device(image), factors).copy_to_host()
        np.testing.assert_array_equal(got, kernels.block_mean(image, factors))

    @few
    @given(SEEDS, SHAPES, SHAPES, st.tuples(*[st.sampled_from([1, -1])] * 3))
    def test_flipped_is_the_same_as_copied(
        self, seed: int, size: tuple[int, int, int], shape: tuple[int, int, int], steps: tuple[int, ...]
    ) -> None:
        rng = np.random.default_rng(seed)
        image = rng.normal(0, 1, size).astype(np.float32)[tuple(slice(None, None, step) for step in steps)]
        matrix = random_matrix(rng, size, shape)
        there, copied = cuda.to_device(image), cuda.to_device(np.ascontiguousarray(image))
        got = cuda.resample(there, matrix, shape).copy_to_host()
        np.testing.assert_array_equal(got, cuda.resample(copied, matrix, shape).copy_to_host())

    def test_large_oblique_volume(self) -> None:
        rng = np.random.default_rng(5)
        image = rng.random((41, 50, 37), np.float32)
        matrix = random_matrix(rng, image.shape, (33, 29, 70))
        expected, certain = numpy_is.resample(image, matrix, (33, 29, 70))
        got = cuda.resample(*put(image), matrix, (33, 29, 70)).copy_to_host()
        np.testing.assert_allclose(got[certain], expected[certain], atol=3e-6)


class TestRestoreLabels:
    @few
    @given(SEEDS, st.integers(1, 6), SHAPES, SHAPES, st.booleans())
    def test_is_the_definition(
        self, seed: int, classes: int, size: tuple[int, int, int], shape: tuple[int, int, int], masked: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        probabilities = blobs(rng, classes, size)
        mask = rng.integers(0, 2, size, np.uint8) if masked else None
        matrix = random_matrix(rng, size, shape)
        expected, certain = numpy_is.restore_labels(probabilities, matrix, shape, mask)
        p, inside = put(probabilities, mask)
        got = cuda.restore_labels(p, matrix, shape, mask=inside).copy_to_host()
        np.testing.assert_array_equal(got[certain], expected[certain])

    def test_is_resample_then_argmax(self) -> None:
        rng = np.random.default_rng(8)
        probabilities = rng.random((5, 11, 12, 13), np.float32)
        matrix = random_matrix(rng, (11, 12, 13), (20, 21, 40))
        volumes = [cuda.resample(*put(p), matrix, (20, 21, 40)).copy_to_host() for p in probabilities]
        got = cuda.restore_labels(*put(probabilities), matrix, (20, 21, 40)).copy_to_host()
        np.testing.assert_array_equal(got, np.stack(volumes).argmax(axis=0))


class TestWarp:
    @few
    @given(SEEDS, st.integers(1, 4), st.one_of(SHAPES, st.just(LARGE)), KNOTS, st.booleans())
    def test_is_the_definition(
        self, seed: int, count: int, shape: tuple[int, int, int], knots: float, fill: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        channels = rng.random((count, *shape), np.float32)
        control = bend(rng, shape, knots)
        expected, certain = numpy_is.warp(channels, control, knots, fill)
        got = cuda.warp(*put(channels, control), knots, fill_background=fill).copy_to_host()
        np.testing.assert_allclose(got[:, certain], expected[:, certain], atol=1e-4)

    @few
    @given(SEEDS, st.one_of(SHAPES, st.just(LARGE)), KNOTS)
    def test_labels(self, seed: int, shape: tuple[int, int, int], knots: float) -> None:
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 256, shape, np.uint8)
        control = bend(rng, shape, knots)
        expected, certain = numpy_is.warp_labels(labels, control, knots)
        got = cuda.warp_labels(*put(labels, control), knots).copy_to_host()
        np.testing.assert_array_equal(got[certain], expected[certain])

    def test_no_displacement_leaves_all_as_it_is(self) -> None:
        channels = np.random.default_rng(0).random((2, 5, 6, 7), np.float32)
        control = np.zeros((3, *numpy_is.control_shape((5, 6, 7), 4.0)), np.float32)
        np.testing.assert_array_equal(cuda.warp(*put(channels, control), 4.0).copy_to_host(), channels)


class TestLikeTheCpu:
    """Without a warp the CPU's bits, on any of its instruction sets: the same operations in the same order."""

    def test_whole_volumes(self) -> None:
        rng = np.random.default_rng(11)
        image, p = rng.normal(0, 1, LARGE).astype(np.float32), blobs(rng, 6, (20, 21, 22))
        mask = rng.integers(0, 2, (20, 21, 22), np.uint8)
        shape = (31, 33, 65)
        matrix, back = random_matrix(rng, LARGE, shape), random_matrix(rng, (20, 21, 22), shape)
        calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
            (kernels.resample, (image, matrix, shape), {}),
            (kernels.restore_labels, (p, back, shape), {}),
            (kernels.restore_labels, (p, back, shape), {"mask": mask}),
            (kernels.argmax, (p,), {}),
        ]
        for kernel, arguments, options in calls:
            expected = kernel(*arguments, **options)
            moved = {name: cuda.to_device(a) if isinstance(a, np.ndarray) else a for name, a in options.items()}
            got = kernel(cuda.to_device(arguments[0]), *arguments[1:], **moved).copy_to_host()
            np.testing.assert_array_equal(got, expected)
        assert kernels.robust_range(cuda.to_device(image)) == kernels.robust_range(image)
