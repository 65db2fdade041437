from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mixpriv.imaging.preprocess.bias import Bias, find_bias
from mixpriv.imaging.resample import Grid

SHAPE = (72, 88, 72)
GRID = Grid(SHAPE, np.array([[2.0, 0, 0, -60], [0, 2.0, 0, -90], [0, 0, 2.0, 25], [0, 0, 0, 1]]))
POSITION = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
MASK = (POSITION**2).sum(axis=0) < 0.9


def brain(seed: int = 0) -> np.ndarray:
    """White matter, grey matter and CSF, centimetres wide, with no trend from one side to the other."""
    random = np.random.default_rng(seed)
    folds = ndimage.gaussian_filter(random.standard_normal(SHAPE), 3)
    level = np.select([folds > np.quantile(folds, 0.6), folds > np.quantile(folds, 0.15)], [900, 600], 250)
    return np.asarray((level + random.normal(0, 20, SHAPE)) * MASK, dtype=np.float32)


def field(kind: str, strength: float = 0.5) -> np.ndarray:
    x, _, z = POSITION
    logarithm = {"slope": z, "side": x, "bright middle": -1.5 * (POSITION**2).sum(axis=0)}
    logarithm["bright rim"] = -logarithm["bright middle"]
    return np.asarray(np.exp(strength * logarithm[kind]), dtype=np.float32)


def unevenness(ratio: np.ndarray) -> float:
    return float(np.log(ratio[MASK]).std())


class TestFindBias:
    @pytest.mark.parametrize("kind", ["slope", "side", "bright middle", "bright rim"])
    def test_a_strong_field_is_taken_away(self, kind: str) -> None:
        bias = find_bias(brain() * field(kind), MASK, GRID)
        assert bias is not None
        assert bias.strength == 1
        assert unevenness(field(kind) * bias.gain(GRID)) < 0.25 * unevenness(field(kind))

    @pytest.mark.parametrize("kind", ["slope", "bright middle"])
    def test_a_weak_field_is_left(self, kind: str) -> None:
        assert find_bias(brain(), MASK, GRID) is None
        assert find_bias(brain() * field(kind, 0.05), MASK, GRID) is None

    def test_its_share_grows_with_it(self) -> None:
        found = [find_bias(brain() * field("slope", strength), MASK, GRID) for strength in (0.1, 0.12, 0.14, 0.16, 0.3)]
        shares = [0.0 if bias is None else bias.strength for bias in found]
        assert shares == sorted(shares)
        assert shares[0] == 0
        assert shares[-1] == 1
        assert any(0 < share < 1 for share in shares)

    @settings(max_examples=10)
    @given(st.floats(1e-4, 1e5))
    def test_scale_does_not_matter(self, factor: float) -> None:
        one, other = (find_bias(brain() * field("slope") * np.float32(f), MASK, GRID) for f in (1, factor))
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one.gain(GRID), other.gain(GRID), rtol=1e-3)

    def test_where_it_lies_does_not_matter(self) -> None:
        far = Grid(SHAPE, GRID.affine + np.array([[0, 0, 0, 900], [0, 0, 0, -400], [0, 0, 0, 70], [0, 0, 0, 0]]))
        one, other = (find_bias(brain() * field("side"), MASK, grid) for grid in (GRID, far))
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one.gain(GRID), other.gain(far), rtol=1e-3)

    @pytest.mark.parametrize("mask", [np.zeros(SHAPE, bool), MASK & (POSITION[0] > 0.9)])
    def test_nothing_is_found_in_too_little(self, mask: np.ndarray) -> None:
        assert find_bias(brain() * field("slope"), mask, GRID) is None
        assert find_bias(np.zeros(SHAPE, np.float32), MASK, GRID) is None

    def test_nothing_is_found_in_large_voxels(self) -> None:
        assert find_bias(brain() * field("slope"), MASK, Grid(SHAPE, np.diag([8.0, 8.0, 8.0, 1.0]))) is None


def test_the_gain_is_the_polynomials_and_stays_between_limits() -> None:
    coefficients = np.arange(1.0, 10.0) / 200
    bias = Bias(coefficients, np.array([3.0, -5.0, 40.0]), 50.0, (0.02, 0.1), 0.5)
    index = np.indices((33, 41, 38)).reshape(3, -1).T
    x, y, z = ((index @ GRID.affine[:3, :3].T + GRID.affine[:3, 3] - bias.centre_mm) / bias.scale_mm).T
    terms = np.stack([x, y, z, x * x, y * y, z * z, x * y, x * z, y * z])
    expected = np.exp(-0.5 * np.clip(coefficients @ terms, 0.02, 0.1)).reshape(33, 41, 38)
    assert expected.min() == pytest.approx(np.exp(-0.05))
    assert expected.max() == pytest.approx(np.exp(-0.01))
    np.testing.assert_allclose(bias.gain(Grid((33, 41, 38), GRID.affine)), expected, atol=5e-3)


def test_threads_and_processors_that_round_otherwise_find_the_same() -> None:
    image = brain() * field("slope")
    one = find_bias(image, MASK, GRID)
    other = find_bias(np.nextafter(image, np.float32(np.inf)), MASK, GRID)
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.coefficients, other.coefficients, atol=1.1e-5)
    np.testing.assert_allclose(one.gain(GRID), other.gain(GRID), rtol=1e-4)
