"""Sums and arg-max over class probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpriv import kernels
from tests.kernels.definitions import THREADS

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (6, 33, 34, 35), (255, 2, 3, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", THREADS)
class TestWholeVolumes:
    def test_accumulate(self, shape: tuple[int, ...], threads: int) -> None:
        total, more = np.random.default_rng(0).random((2, *shape), np.float32)
        expected = total + more
        kernels.accumulate(total, more, threads=threads)
        np.testing.assert_array_equal(total, expected)

    def test_argmax(self, shape: tuple[int, ...], threads: int) -> None:
        probabilities = np.random.default_rng(1).random(shape, np.float32)
        labels = kernels.argmax(probabilities, threads=threads)
        np.testing.assert_array_equal(labels, probabilities.argmax(axis=0))


@given(st.integers(0, 2**32), st.integers(1, 6), st.tuples(*[st.integers(1, 12)] * 3))
def test_first_of_equal_classes_wins(seed: int, classes: int, shape: tuple[int, int, int]) -> None:
    probabilities = np.random.default_rng(seed).integers(-1, 2, (classes, *shape)).astype(np.float32)
    np.testing.assert_array_equal(kernels.argmax(probabilities), probabilities.argmax(axis=0))


def test_accumulates_onto_itself() -> None:
    total = np.full((2, 3), 0.25, np.float32)
    kernels.accumulate(total, total)
    assert (total == 0.5).all()
