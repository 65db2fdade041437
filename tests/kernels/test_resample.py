"""Resampling through an affine, against SciPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpriv import kernels
from tests.kernels import definitions as numpy_is
from tests.kernels.definitions import THREADS, Array

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


class TestRestoreLabels:
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
