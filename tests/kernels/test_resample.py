"""Resampling through an affine, against SciPy in float64."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpriv import kernels
from tests.kernels import definitions as numpy_is
from tests.kernels.definitions import ISAS, THREADS, Array, forced

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
SEEDS = st.integers(0, 2**32)
IDENTITY = np.eye(4)[:3]


def random_matrix(rng: np.random.Generator, size: tuple[int, ...], shape: tuple[int, int, int]) -> Array:
    """An affine of any orientation that brings the two volumes' centres near to each other."""
    linear = rng.normal(0, 0.8, (3, 3))
    if rng.random() < 0.3:  # axes permuted and flipped, as in real scans
        linear = np.eye(3)[rng.permutation(3)] * rng.choice([-1.5, -1.0, 0.7, 1.0], 3)
    centre = (np.array(size) - 1) / 2 - linear @ ((np.array(shape) - 1) / 2)
    return np.ascontiguousarray(np.column_stack([linear, centre + rng.normal(0, 1, 3)]))


def blobs(rng: np.random.Generator, classes: int, size: tuple[int, ...]) -> Array:
    """Probabilities with constant regions and soft borders between them."""
    where = np.indices(size).astype(np.float64)
    centres = rng.uniform(0, 1, (classes, 3)) * np.array(size)
    distance = np.stack([((where - c.reshape(3, 1, 1, 1)) ** 2).sum(axis=0) for c in centres])
    strength = np.exp(-(distance - distance.min(axis=0)) / rng.choice([0.01, 3.0]))
    return np.ascontiguousarray(strength / strength.sum(axis=0), np.float32)


class TestResample:
    @given(SEEDS, SHAPES, SHAPES)
    def test_is_scipys(self, seed: int, size: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
        rng = np.random.default_rng(seed)
        image = rng.normal(0, 1, size).astype(np.float32)
        matrix = random_matrix(rng, size, shape)
        expected, certain = numpy_is.resample(image, matrix, shape)
        for threads in THREADS:
            got = kernels.resample(image, matrix, shape, threads=threads)
            np.testing.assert_allclose(got[certain], expected[certain], atol=3e-6)

    def test_large_oblique_volume(self) -> None:
        rng = np.random.default_rng(5)
        image = rng.random((41, 50, 37), np.float32)
        matrix = random_matrix(rng, image.shape, (60, 45, 52))
        expected, certain = numpy_is.resample(image, matrix, (60, 45, 52))
        results = [kernels.resample(image, matrix, (60, 45, 52), threads=threads) for threads in THREADS]
        np.testing.assert_allclose(results[0][certain], expected[certain], atol=3e-6)
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])

    @given(SEEDS, SHAPES, st.tuples(*[st.booleans()] * 3))
    def test_flipped_axes_are_read_where_they_lie(
        self, seed: int, size: tuple[int, int, int], flips: tuple[bool, bool, bool]
    ) -> None:
        rng = np.random.default_rng(seed)
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
        image = rng.random(size, np.float32)[steps]
        matrix = random_matrix(rng, size, (9, 8, 7))
        np.testing.assert_array_equal(
            kernels.resample(image, matrix, (9, 8, 7)),
            kernels.resample(np.ascontiguousarray(image), matrix, (9, 8, 7)),
        )

    def test_every_instruction_set_gives_the_same_bits(self) -> None:
        rng = np.random.default_rng(6)
        image = rng.random((31, 33, 35), np.float32)
        matrix = random_matrix(rng, image.shape, (40, 41, 150))
        results = set()
        for isa in [p.values[0] for p in ISAS if not p.marks[0].args[0]]:
            with forced(str(isa)):
                results.add(kernels.resample(image, matrix, (40, 41, 150)).tobytes())
        assert len(results) == 1

    def test_identity_returns_the_image(self) -> None:
        image = np.random.default_rng(0).random((4, 5, 6), np.float32)
        np.testing.assert_array_equal(kernels.resample(image, IDENTITY, (4, 5, 6)), image)

    @pytest.mark.parametrize(
        ("shift", "expected"),
        [
            (0.0, [1, 2, 4]),
            (0.5, [1.5, 3, 4]),  # half a voxel beyond the last: its value
            (0.51, [1.51, 3.02, 0]),
            (-0.5, [1, 1.5, 3]),
            (-0.51, [0, 1.49, 2.98]),
            (3.0, [0, 0, 0]),
            (-1e29, [0, 0, 0]),
        ],
    )
    def test_edge(self, shift: float, expected: list[float]) -> None:
        image = np.array([[[1, 2, 4]]], np.float32)
        matrix = IDENTITY.copy()
        matrix[2, 3] = shift
        np.testing.assert_allclose(kernels.resample(image, matrix, (1, 1, 3))[0, 0], expected, rtol=1e-6)

    @pytest.mark.parametrize("step", [0.0, 1e-300, -1e-300, 1e-17])
    def test_step_too_small_to_move(self, step: float) -> None:
        image = np.full((2, 2, 2), 3, np.float32)
        matrix = np.full((3, 4), step)
        np.testing.assert_array_equal(kernels.resample(image, matrix, (3, 3, 3)), np.full((3, 3, 3), 3))


class TestBlockMean:
    @given(
        SEEDS,
        st.tuples(*[st.integers(1, 13)] * 3),
        st.tuples(*[st.integers(1, 4)] * 3),
        st.tuples(*[st.sampled_from([1, -1])] * 3),
    )
    def test_is_numpys(
        self, seed: int, size: tuple[int, int, int], factors: tuple[int, int, int], steps: tuple[int, int, int]
    ) -> None:
        factors = (min(factors[0], size[0]), min(factors[1], size[1]), min(factors[2], size[2]))
        image = np.random.default_rng(seed).normal(0, 1, size).astype(np.float32)
        image = image[tuple(slice(None, None, step) for step in steps)]
        counts = [n // f for n, f in zip(size, factors, strict=True)]
        box = tuple(slice(0, n * f) for n, f in zip(counts, factors, strict=True))
        split = [m for n, f in zip(counts, factors, strict=True) for m in (n, f)]
        expected = image[box].astype(np.float64).reshape(split).mean(axis=(1, 3, 5))
        for threads in THREADS:
            got = kernels.block_mean(image, factors, threads=threads)
            np.testing.assert_allclose(got, expected, atol=2e-6)

    def test_blocks_of_one_voxel_are_the_image(self) -> None:
        image = np.random.default_rng(0).random((3, 4, 5), np.float32)
        np.testing.assert_array_equal(kernels.block_mean(image, (1, 1, 1)), image)


class TestRestoreLabels:
    @pytest.mark.parametrize("isa", ISAS)
    @given(SEEDS, st.integers(1, 6), SHAPES, SHAPES)
    def test_keeps_inside_the_mask(
        self, isa: str, seed: int, classes: int, size: tuple[int, int, int], shape: tuple[int, int, int]
    ) -> None:
        rng = np.random.default_rng(seed)
        probabilities = blobs(rng, classes, size)
        mask = (rng.random(size) < rng.choice([0.2, 0.9])).astype(np.uint8)
        matrix = random_matrix(rng, size, shape)
        expected, certain = numpy_is.restore_labels(probabilities, matrix, shape, mask)
        with forced(isa):
            for threads in THREADS:
                got = kernels.restore_labels(probabilities, matrix, shape, mask=mask, threads=threads)
                np.testing.assert_array_equal(got[certain], expected[certain])

    @given(SEEDS, st.integers(1, 6), SHAPES, SHAPES)
    def test_is_the_definition(
        self, seed: int, classes: int, size: tuple[int, int, int], shape: tuple[int, int, int]
    ) -> None:
        rng = np.random.default_rng(seed)
        probabilities = blobs(rng, classes, size)
        matrix = random_matrix(rng, size, shape)
        expected, certain = numpy_is.restore_labels(probabilities, matrix, shape)
        for threads in THREADS:
            got = kernels.restore_labels(probabilities, matrix, shape, threads=threads)
            np.testing.assert_array_equal(got[certain], expected[certain])

    def test_large_oblique_volume(self) -> None:
        rng = np.random.default_rng(7)
        probabilities = blobs(rng, 6, (41, 50, 37))
        matrix = random_matrix(rng, (41, 50, 37), (60, 45, 52))
        expected, certain = numpy_is.restore_labels(probabilities, matrix, (60, 45, 52))
        assert certain.mean() > 0.99
        results = [kernels.restore_labels(probabilities, matrix, (60, 45, 52), threads=n) for n in THREADS]
        np.testing.assert_array_equal(results[0][certain], expected[certain])
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])

    def test_is_resample_then_argmax(self) -> None:
        rng = np.random.default_rng(8)
        probabilities = rng.random((5, 11, 12, 13), np.float32)
        matrix = random_matrix(rng, (11, 12, 13), (20, 21, 22))
        volumes = np.stack([kernels.resample(p, matrix, (20, 21, 22)) for p in probabilities])
        expected = kernels.argmax(volumes)
        np.testing.assert_array_equal(kernels.restore_labels(probabilities, matrix, (20, 21, 22)), expected)

    def test_outside_the_grid_is_background(self) -> None:
        probabilities = np.zeros((2, 3, 3, 3), np.float32)
        probabilities[1] = 1
        labels = kernels.restore_labels(probabilities, IDENTITY - [0, 0, 0, 2], (8, 8, 8))
        expected = np.zeros((8, 8, 8))
        expected[2:5, 2:5, 2:5] = 1
        np.testing.assert_array_equal(labels, expected)

    def test_first_of_equal_classes_wins(self) -> None:
        probabilities = np.array([[0.5, 0.0], [0.5, 1.0]], np.float32).reshape(2, 1, 1, 2)
        assert kernels.restore_labels(probabilities, IDENTITY, (1, 1, 2)).tolist() == [[[0, 1]]]

    def test_255_classes(self) -> None:
        probabilities = np.zeros((255, 2, 2, 2), np.float32)
        probabilities[254] = 1
        assert (kernels.restore_labels(probabilities, IDENTITY, (2, 2, 2)) == 254).all()


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("isa", ISAS)
def test_the_order_of_the_result_s_axes_changes_no_value(isa: str, order: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.random((19, 20, 21), np.float32)
    shares = rng.random((3, 19, 20, 21), np.float32)
    shape = (35, 70, 150)
    # numbers of a few bits: in any order their sums are exact
    matrix = np.array([[0.5, 0, 0, 0.25], [0, 0.25, 0.03125, 0.125], [0, -0.125, 0.125, 4]])
    turned, to = matrix[:, [*order, 3]].copy(), tuple(shape[axis] for axis in order)
    calls = [
        lambda m, s: kernels.resample(image, m, s),
        lambda m, s: kernels.restore_labels(shares, m, s),
    ]
    with forced(isa):
        for call in calls:
            np.testing.assert_array_equal(call(turned, to), call(matrix, shape).transpose(order))
