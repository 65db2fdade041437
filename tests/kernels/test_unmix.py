"""The unmixer's answer to class probabilities, against the definition and between instruction sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mixpriv import _native, kernels
from mixpriv.errors import InputError
from tests.kernels import definitions as numpy_is
from tests.kernels.definitions import ISAS, THREADS, forced

Array = NDArray[Any]


def assert_soft_max(got: Array, correction: Array, linear: Array | None, trust: float) -> None:
    """To the rounding of the logits in float32."""
    largest = np.abs(correction).max() + (0 if linear is None else abs(trust) * np.abs(linear).max())
    expected = numpy_is.unmix(correction, linear, trust)
    np.testing.assert_allclose(got, expected, atol=2**-22 * max(1.0, float(largest)), rtol=0)


def example(seed: int, classes: int, blocks: tuple[int, int, int], scale: float) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    correction = (scale * random.standard_normal((8 * classes, *blocks))).astype(np.float32)
    linear = random.uniform(-1, 2, (classes, *(2 * n for n in blocks))).astype(np.float32)
    return correction, linear


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("classes", "blocks"), [(1, (1, 1, 1)), (3, (3, 2, 5)), (6, (9, 10, 70)), (255, (2, 1, 3))])
def test_it_is_the_soft_max(isa: str, classes: int, blocks: tuple[int, int, int]) -> None:
    correction, linear = example(0, classes, blocks, 4.0)
    with forced(isa):
        for threads in THREADS:
            assert_soft_max(kernels.unmix(correction, linear, 3.1, threads=threads), correction, linear, 3.1)
            assert_soft_max(kernels.unmix(correction, None, 3.1, threads=threads), correction, None, 0.0)


@given(
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 80)),
    st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    st.floats(-10, 10, width=32),
)
def test_every_processor_gives_the_same_bits(
    seed: int, classes: int, blocks: tuple[int, int, int], scale: float, trust: float
) -> None:
    correction, linear = example(seed, classes, blocks, scale)
    results = []
    for isa in _native.available_isas():
        with forced(isa):
            results += [kernels.unmix(correction, linear, trust, threads=threads) for threads in (1, 3)]
    assert_soft_max(results[0], correction, linear, trust)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].view(np.uint32), other.view(np.uint32))


def test_a_total_is_added_to() -> None:
    correction, linear = example(1, 3, (2, 3, 4), 2.0)
    one = kernels.unmix(correction, linear, 1.0)
    total = one.copy()
    assert kernels.unmix(correction, linear, 1.0, total=total) is total
    np.testing.assert_array_equal(total, one + one)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_label_map(isa: str, value: float) -> None:
    correction, linear = example(2, 3, (2, 3, 70), 2.0)
    for where in (0, len(correction) - 1):
        bad = correction.copy()
        bad[where, 1, 2, 69] = value
        with (
            forced(isa),
            pytest.raises(InputError, match=r"^correction, linear: expected finite logits, got NaN or Inf$"),
        ):
            kernels.unmix(bad, linear, 1.0)
    with forced(isa), pytest.raises(InputError, match="expected finite logits"):
        kernels.unmix(correction, linear, 3e38)


def test_far_from_the_largest_is_nothing_but_never_nan() -> None:
    correction = np.zeros((16, 1, 1, 1), np.float32)
    correction[8:] = 3e38
    got = kernels.unmix(correction, None, 0.0)
    assert (got[1] == 1).all()
    assert (got[0] < 1e-37).all()
