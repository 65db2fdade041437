"""The warp and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mixpriv import kernels
from mixpriv.errors import InputError
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.warp import displacement, draw_warp, smooth_displacement, undo_warp
from tests.kernels import definitions as numpy_is

SHAPE = (32, 48, 40)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), mean_mm=st.floats(0.5, 4.0), spacing_mm=st.floats(1.0, 2.0))
def test_there_and_back_is_where_one_was(seed: int, mean_mm: float, spacing_mm: float) -> None:
    warp = draw_warp(Keystream(seed.to_bytes(32, "little")), SHAPE, mean_mm, spacing_mm)
    length_mm = np.sqrt((displacement(warp.forward, SHAPE) ** 2).sum(0)) * spacing_mm
    assert length_mm.mean() == pytest.approx(mean_mm, rel=1e-3)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")).astype(np.float32)
    inner = (slice(None), *(slice(8, -8),) * 3)
    back = undo_warp(kernels.warp(grid, *warp.forward), warp)
    # not the first channel, which is made to complete the sum
    assert np.abs(back - grid)[1:][inner].max() < 0.2


def test_the_same_stream_bends_alike_and_another_does_not() -> None:
    image = np.random.default_rng(0).random(SHAPE, np.float32)
    one, again, other = (
        kernels.warp(image[None], *draw_warp(Keystream(bytes(31) + bytes([k])), SHAPE, 3.0, 1.0).forward)
        for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.5


def test_probabilities_still_sum_to_one() -> None:
    warp = draw_warp(Keystream(bytes(32)), SHAPE, 4.0, 1.0)
    probabilities = np.zeros((3, *SHAPE), np.float32)
    probabilities[2] = 1
    back = undo_warp(probabilities, warp)
    np.testing.assert_allclose(back.sum(0), 1, atol=1e-5)
    assert back[2, 16, 24, 20] == pytest.approx(1)


@pytest.mark.parametrize("mean_mm", [0.0, -1.0, 8.5, float("nan")])
def test_a_length_that_has_no_way_back_is_refused(mean_mm: float) -> None:
    with pytest.raises(InputError, match="warp: expected a mean length above 0 and at most 8 mm, got"):
        draw_warp(Keystream(bytes(32)), SHAPE, mean_mm, 1.0)


def test_the_longest_that_is_allowed_can_be_undone() -> None:
    shape = (48, 64, 48)
    warp = draw_warp(Keystream(bytes(32)), shape, 8.0, 1.0)
    back = displacement(warp.inverse, shape)
    forth = displacement(warp.forward, shape)
    where = np.indices(shape) + back
    rest = back + np.stack([ndimage.map_coordinates(u, where, order=1, mode="nearest") for u in forth])
    inside = ((where >= 0) & (where <= np.array(shape).reshape(3, 1, 1, 1) - 1)).all(0)
    assert np.quantile(np.sqrt((rest**2).sum(0))[inside], 0.99) < 0.2


def test_a_smooth_displacement_has_unit_variance() -> None:
    shape = (64, 80, 72)
    drawn = [displacement(smooth_displacement(Keystream(bytes(31) + bytes([k])), shape, 1.5), shape) for k in range(8)]
    assert np.std(drawn) == pytest.approx(1, abs=0.1)


def test_a_displacement_is_that_of_the_kernels() -> None:
    warp = draw_warp(Keystream(bytes(32)), SHAPE, 4.0, 1.5)
    np.testing.assert_allclose(
        displacement(warp.forward, SHAPE), numpy_is.displacement(*warp.forward, SHAPE), atol=1e-5
    )
