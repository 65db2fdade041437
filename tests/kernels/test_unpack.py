"""From the server's bytes to the unmixer's input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpriv import kernels
from tests.kernels import definitions as numpy_is
from tests.kernels.definitions import ISAS, THREADS, forced


@pytest.mark.parametrize("isa", ISAS)
class TestUnpack:
    @given(
        seed=st.integers(0, 2**32),
        shape=st.tuples(*[st.integers(1, 9)] * 3),
        classes=st.integers(2, 9),
        weight=st.floats(0, 1),
    )
    def test_is_the_definition(
        self, isa: str, seed: int, shape: tuple[int, int, int], classes: int, weight: float
    ) -> None:
        rng = np.random.default_rng(seed)
        answer = rng.integers(0, 512 // classes, (classes - 1, *shape)).astype(np.uint8)
        labels = rng.integers(0, classes, shape, np.uint8)
        expected = numpy_is.unpack(answer, labels, weight)
        with forced(isa):
            for threads in THREADS:
                got = kernels.unpack(answer, labels, weight, threads=threads)
                np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize(("classes", "shape"), [(6, (50, 51, 53)), (255, (3, 5, 7))])
    def test_many_voxels_and_many_classes(self, isa: str, classes: int, shape: tuple[int, int, int]) -> None:
        rng = np.random.default_rng(classes)
        answer = rng.integers(0, 256, (classes - 1, *shape), np.uint8)
        labels = rng.integers(0, classes, shape, np.uint8)
        expected = numpy_is.unpack(answer, labels, 0.25)
        with forced(isa):
            for threads in THREADS:
                np.testing.assert_array_equal(kernels.unpack(answer, labels, 0.25, threads=threads), expected)

    @pytest.mark.parametrize(
        ("answer", "background"), [((0, 0), 255), ((255, 0), 0), ((100, 155), 0), ((128, 128), 0), ((255, 255), 0)]
    )
    def test_background_is_what_the_others_leave(self, isa: str, answer: tuple[int, int], background: int) -> None:
        voxel = np.array(answer, np.uint8).reshape(2, 1, 1, 1)
        with forced(isa):
            got = kernels.unpack(voxel, np.zeros((1, 1, 1), np.uint8), 0.5)
        assert got[0, 0, 0, 0] == np.float32(background) / np.float32(255)
