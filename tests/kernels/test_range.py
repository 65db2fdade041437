"""The robust intensity range: exact percentiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixpriv import kernels
from tests.kernels import definitions as numpy_is
from tests.kernels.definitions import ISAS, THREADS, Array, forced

PERCENT = st.floats(0, 100)


@given(
    image=hnp.arrays(
        np.float32,
        hnp.array_shapes(max_dims=4, max_side=9),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    ends=st.tuples(PERCENT, PERCENT).filter(lambda e: e[0] < e[1]),
    seed=st.none() | st.integers(0, 2**32),
)
def test_is_the_exact_percentile(image: Array, ends: tuple[float, float], seed: int | None) -> None:
    mask = None
    if seed is not None:
        mask = np.random.default_rng(seed).integers(0, 3, image.shape, np.uint8)
        mask.flat[0] = 1
    got = kernels.robust_range(image, mask, *ends)
    span = float(np.ptp(image.astype(np.float64)))
    np.testing.assert_allclose(got, numpy_is.robust_range(image, mask, *ends), rtol=1e-12, atol=1e-11 * span)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("values", ["integers", "normal", "mostly zero", "three", "one"])
def test_does_not_depend_on_threads(values: str, masked: bool, isa: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(300, 100, (90, 91, 92)).astype(np.float32)
    match values:
        case "integers":
            image = np.round(image)
        case "mostly zero":
            image[rng.random(image.shape) < 0.97] = 0
        case "three":
            image = np.clip(np.round(image / 100), 2, 4)
        case "one":
            image[:] = 7
    mask = rng.integers(0, 3, image.shape, np.uint8) if masked else None
    with forced(isa):
        found = {kernels.robust_range(image, mask, threads=threads) for threads in THREADS}
    assert len(found) == 1
    np.testing.assert_allclose(found.pop(), numpy_is.robust_range(image, mask, 0.5, 99.5), rtol=1e-12)


@pytest.mark.parametrize("isa", ISAS)
@given(lower=st.floats(0, 99), share=st.floats(0.01, 1), seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_large_images_at_any_percentiles(isa: str, lower: float, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((40, 41, 42), np.float32)
    mask = (rng.random(image.shape, np.float32) < share).astype(np.uint8)
    ends = lower, lower + (100 - lower) * rng.uniform(0.01, 1)
    with forced(isa):
        got = kernels.robust_range(image, mask, *ends)
    np.testing.assert_allclose(got, numpy_is.robust_range(image, mask, *ends), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "ends", "expected"),
    [
        ([7.0], (0.5, 99.5), (7.0, 7.0)),
        ([1.0, 2.0], (0.0, 100.0), (1.0, 2.0)),
        ([-0.0, 0.0, -1.0], (0.0, 50.0), (-1.0, 0.0)),
        ([-np.finfo(np.float32).max, np.finfo(np.float32).max], (25.0, 100.0), (-1.7014117331926443e38, 3.4028235e38)),
        ([1e-45, 3e-45], (0.0, 100.0), (1.401298464324817e-45, 2.802596928649634e-45)),
    ],
)
def test_known_answers(image: list[float], ends: tuple[float, float], expected: tuple[float, float]) -> None:
    assert kernels.robust_range(np.array(image, np.float32), None, *ends) == pytest.approx(expected, rel=1e-7)


def test_ignores_what_is_outside_the_mask() -> None:
    image = np.array([np.nan, 1, 2, 3, np.inf], np.float32)
    assert kernels.robust_range(image, np.array([0, 1, 9, 255, 0], np.uint8), 0, 100) == (1.0, 3.0)
