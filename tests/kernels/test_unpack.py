"""From the server's bytes to the unmixer's input: the same bits on every instruction set and thread count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpriv import kernels
from tests.kernels import definitions as numpy_is
from tests.kernels.definitions import ISAS, THREADS, Array, forced


def example(seed: int, shape: tuple[int, ...], classes: int) -> tuple[Array, Array]:
    """Make an answer, some of it adding up to more than 1, and labels."""
    rng = np.random.default_rng(seed)
    answer = rng.integers(0, min(256, 512 // classes + 1), (classes - 1, *shape)).astype(np.uint8)
    return answer, rng.integers(0, classes, shape, np.uint8)


def assert_same_bits(got: Array, expected: Array) -> None:
    assert got.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("isa", ISAS)
class TestUnpack:
    @given(
        seed=st.integers(0, 2**32),
        shape=st.tuples(*[st.integers(1, 9)] * 3),
        classes=st.integers(2, 9),
        weight=st.floats(1e-30, 1),
    )
    def test_is_the_definition_bit_by_bit(
        self, isa: str, seed: int, shape: tuple[int, int, int], classes: int, weight: float
    ) -> None:
        answer, labels = example(seed, shape, classes)
        expected = numpy_is.unpack(answer, labels, weight)
        with forced(isa):
            for threads in THREADS:
                assert_same_bits(kernels.unpack(answer, labels, weight, threads=threads), expected)

    @pytest.mark.parametrize(("classes", "shape"), [(6, (50, 51, 53)), (255, (3, 5, 7))])
    def test_many_voxels_and_many_classes(self, isa: str, classes: int, shape: tuple[int, int, int]) -> None:
        rng = np.random.default_rng(classes)
        answer = rng.integers(0, 256, (classes - 1, *shape), np.uint8)
        labels = rng.integers(0, classes, shape, np.uint8)
        expected = numpy_is.unpack(answer, labels, 0.25)
        with forced(isa):
            for threads in THREADS:
                assert_same_bits(kernels.unpack(answer, labels, 0.25, threads=threads), expected)

    @pytest.mark.parametrize("shape", [(11, 12, 13), (70, 81, 89)])  # the larger is written past the caches
    @pytest.mark.parametrize("offset", [0, 1, 15])
    def test_into_memory_that_is_given(self, isa: str, shape: tuple[int, int, int], offset: int) -> None:
        answer, labels = example(2, shape, 5)
        expected = numpy_is.unpack(answer, labels, 0.3)
        memory = np.full(expected.size + offset + 1, 7, np.float32)  # one more, which must stay
        out = memory[offset:-1].reshape(expected.shape)
        with forced(isa):
            assert kernels.unpack(answer, labels, 0.3, out=out) is out
        assert_same_bits(out, expected)
        assert (memory[:offset] == 7).all()
        assert memory[-1] == 7

    @pytest.mark.parametrize("weight", [1.0, 0.7, 0.5, 0.3, np.nextafter(0.3, 1), 1e-3])
    def test_every_byte_at_every_label(self, isa: str, weight: float) -> None:
        answer, labels = (np.ascontiguousarray(a, np.uint8) for a in np.meshgrid(range(256), (0, 1), indexing="ij"))
        expected = numpy_is.unpack(answer[None, None], labels[None], weight)
        with forced(isa):
            assert_same_bits(kernels.unpack(answer[None, None], labels[None], weight), expected)

    def test_the_whole_weight_leaves_the_probabilities(self, isa: str) -> None:
        answer, labels = example(1, (7, 8, 9), 6)
        with forced(isa):
            got = kernels.unpack(answer, labels, 1.0)
        assert_same_bits(got[1:6], answer.astype(np.float32) / np.float32(255))

    @pytest.mark.parametrize(
        ("answer", "background"), [((0, 0), 255), ((255, 0), 0), ((100, 155), 0), ((128, 128), 0), ((255, 255), 0)]
    )
    def test_background_is_what_the_others_leave(self, isa: str, answer: tuple[int, int], background: int) -> None:
        voxel = np.array(answer, np.uint8).reshape(2, 1, 1, 1)
        with forced(isa):
            got = kernels.unpack(voxel, np.zeros((1, 1, 1), np.uint8), 1.0)
        assert got[0, 0, 0, 0] == np.float32(background) / np.float32(255)


@given(seed=st.integers(0, 2**32), classes=st.integers(2, 9), weight=st.floats(0.05, 1))
def test_means_the_mixing_equation_solved(seed: int, classes: int, weight: float) -> None:
    answer, labels = example(seed, (5, 6, 7), classes)
    exact = numpy_is.unpack(answer, labels, weight, np.float64)
    np.testing.assert_allclose(kernels.unpack(answer, labels, weight), exact, atol=2**-22 / weight)


def test_unmixes_what_was_mixed() -> None:
    target, reference = np.random.default_rng(0).integers(0, 6, (2, 9, 10, 11)).astype(np.uint8)
    one_hot = np.eye(6)
    mixed = np.moveaxis(0.4 * one_hot[target] + 0.6 * one_hot[reference], -1, 0)
    answer = np.ascontiguousarray(np.rint(255 * mixed[1:]), np.uint8)
    got = kernels.unpack(answer, reference, 0.4)
    np.testing.assert_allclose(got[:6], np.moveaxis(one_hot[target], -1, 0), atol=2.5 / 255 / 0.4)
    np.testing.assert_array_equal(got[6:12], np.moveaxis(one_hot[reference], -1, 0))
    np.testing.assert_array_equal(got[12], np.float32(0.4))
