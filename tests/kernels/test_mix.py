"""Mixing: the same bits on every instruction set and thread count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixpriv import kernels
from tests.kernels import definitions as numpy_is
from tests.kernels.definitions import ISAS, THREADS, Array, forced

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
WEIGHTS = st.floats(0, 1)


def bits(mixture: Array) -> Array:
    return np.asarray(mixture.view(np.uint16))


def example(seed: int, shape: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    target = rng.normal(400, 300, shape).astype(np.float32)
    reference = rng.uniform(-0.1, 1.1, shape).astype(np.float32)
    masks = (rng.random((2, *shape)) < 0.7).astype(np.uint8) * rng.integers(1, 256, (2, *shape), np.uint8)
    return target, masks[0], reference, masks[1]


@pytest.mark.parametrize("isa", ISAS)
class TestMix:
    @given(seed=st.integers(0, 2**32), shape=SHAPES, weight=WEIGHTS, lo=st.floats(-100, 100), hi=st.floats(101, 2000))
    def test_is_the_definition_bit_by_bit(
        self, isa: str, seed: int, shape: tuple[int, ...], weight: float, lo: float, hi: float
    ) -> None:
        target, target_mask, reference, reference_mask = example(seed, shape)
        expected = numpy_is.mix(target, target_mask, (lo, hi), reference, reference_mask, weight)
        with forced(isa):
            for threads in THREADS:
                got = kernels.mix(target, target_mask, (lo, hi), reference, reference_mask, weight, threads=threads)
                np.testing.assert_array_equal(bits(got), bits(expected))

    @given(
        target=hnp.arrays(np.float32, 37, elements=st.floats(width=32)),
        reference=hnp.arrays(np.float32, 37, elements=st.floats(width=32)),
        weight=WEIGHTS,
    )
    def test_takes_any_float(self, isa: str, target: Array, reference: Array, weight: float) -> None:
        x, r, mask = target[None, None], reference[None, None], np.ones((1, 1, 37), np.uint8)
        expected = numpy_is.mix(x, mask, (-3.0, 5.0), r, mask, weight)
        with forced(isa):
            np.testing.assert_array_equal(kernels.mix(x, mask, (-3.0, 5.0), r, mask, weight), expected)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (40, 96, 33)])
    def test_without_reference_is_the_normalised_target(self, isa: str, shape: tuple[int, ...]) -> None:
        target, mask, reference, reference_mask = example(1, shape)
        expected = numpy_is.mix(target, mask, (10.0, 800.0), None, None, 1.0)
        with forced(isa):
            got = kernels.mix(target, mask, (10.0, 800.0), None, None, 1.0)
            mixed = kernels.mix(target, mask, (10.0, 800.0), reference, reference_mask, 1.0)
        np.testing.assert_array_equal(bits(got), bits(expected))
        np.testing.assert_array_equal(bits(mixed), bits(expected))

    def test_large_volume_on_any_number_of_threads(self, isa: str) -> None:
        target, target_mask, reference, reference_mask = example(2, (70, 61, 53))
        expected = numpy_is.mix(target, target_mask, (0.0, 900.0), reference, reference_mask, 0.37)
        with forced(isa):
            for threads in THREADS:
                got = kernels.mix(target, target_mask, (0.0, 900.0), reference, reference_mask, 0.37, threads=threads)
                np.testing.assert_array_equal(bits(got), bits(expected))

    def test_rounds_every_tie_to_even(self, isa: str) -> None:
        half = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)  # every value from 0 to 1
        ties = (half[:-1] + half[1:]) / 2
        near = [np.nextafter(ties, np.float32(side)) for side in (0, 1)]
        values = np.concatenate([half, ties, *near])[None, None]
        with forced(isa):
            got = kernels.mix(values, np.ones(values.shape, np.uint8), (0.0, 1.0), None, None, 1.0)
        np.testing.assert_array_equal(bits(got), bits(values.astype(np.float16)))


def test_means_what_the_paper_says() -> None:
    target, target_mask, reference, reference_mask = example(3, (16, 17, 18))
    got = kernels.mix(target, target_mask, (50.0, 750.0), reference, reference_mask, 0.6).astype(np.float64)
    exact = numpy_is.mix(target, target_mask, (50.0, 750.0), reference, reference_mask, 0.6, np.float64)
    np.testing.assert_allclose(got, exact, atol=2**-12 + 1e-6)
    assert not got[(target_mask == 0) & (reference_mask == 0)].any()
