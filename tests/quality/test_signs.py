"""What is seen of a result says what was done to it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mixpriv.quality.signs import STEP, References, Signs, signs_of
from tests.support.results import SHAPE, conformed, labels, probabilities

ONE_MM = np.ones(3)


def seen(of: NDArray[np.uint8], scan: NDArray[np.uint8] | None = None, sure: float = 0.9, noise: float = 0.0) -> Signs:
    """The signs of labels that were found in the scan of others."""
    shown = conformed(labels() if scan is None else scan, noise)
    return signs_of(probabilities(of, sure), shown, of, ONE_MM)


class TestARightResult:
    def test_is_what_it_is(self) -> None:
        signs, truth = seen(labels()), labels()[::STEP, ::STEP, ::STEP]
        counts = np.bincount(truth[truth > 0])[1:]
        np.testing.assert_allclose(signs.share, counts / counts.sum())
        np.testing.assert_allclose(signs.spread[:, 0], signs.spread[:, 2])
        assert (signs.outside, signs.cut_cm2, signs.agreement) == (0.0, 0.0, None)
        assert signs.mask_ml == pytest.approx(np.count_nonzero(labels()) * 0.064)
        assert signs.fragments.tolist() == [0, 0, 0]
        assert signs.contrast == pytest.approx(1, abs=1e-5)
        assert signs.step == pytest.approx(1, abs=1e-5)
        assert signs.steadiness == pytest.approx(1, abs=1e-5)

    def test_does_not_depend_on_the_scale_of_the_probabilities(self) -> None:
        one, other = (
            signs_of(scale * probabilities(labels()), conformed(labels()), labels(), ONE_MM) for scale in (1, 7)
        )
        np.testing.assert_allclose(one.certainty, other.certainty, rtol=1e-5)


class TestAWrongResult:
    def test_is_less_sure(self) -> None:
        assert (seen(labels(), sure=0.5).certainty < seen(labels()).certainty).all()

    def test_does_not_explain_the_scan(self) -> None:
        wrong = labels()
        wrong[wrong > 0] = np.roll([1, 2, 3], 1)[wrong[wrong > 0] - 1]
        moved = np.roll(labels(), 6, axis=1) * (labels() > 0)
        assert seen(moved).contrast < 0.7
        assert seen(moved).step < 0.7
        assert seen(wrong).contrast == pytest.approx(1, abs=1e-5)  # names alone cannot be seen

    def test_is_in_pieces(self) -> None:
        broken = labels()
        broken[4:28:6, 4:28:6, 4:28:6] = 1
        assert seen(broken).fragments[0] > 0.01

    def test_is_lopsided(self) -> None:
        half = labels()
        half[16:][half[16:] == 1] = 2
        signs = seen(half)
        assert signs.left[0] == 1.0
        assert signs.mirrored[0] == 0.0
        assert signs.place[0, 0] < 15
        assert signs.left[2] == pytest.approx(0.5, abs=0.1)

    def test_of_noise_is_grainy(self) -> None:
        assert seen(labels(), noise=0.2).grain > 2 * seen(labels()).grain
        assert seen(labels(), noise=0.2).contrast < seen(labels(), noise=0.2).smooth_contrast

    def test_of_a_head_that_is_cut_off_reaches_the_edge(self) -> None:
        cut = labels()[:, :, 10:]
        signs = signs_of(probabilities(labels()), conformed(labels()), cut, ONE_MM)
        assert signs.cut_cm2 == pytest.approx(np.count_nonzero(cut[:, :, 2]) / 100)

    def test_with_a_class_that_is_not_there(self) -> None:
        gone = labels()
        gone[gone == 1] = 2
        signs = seen(gone)
        assert signs.share[0] == 0
        assert all(np.isfinite(values).all() for values in (signs.place, signs.spread, signs.certainty))

    def test_without_any_label(self) -> None:
        nothing = np.zeros(SHAPE, np.uint8)
        signs = seen(nothing)
        assert signs.outside == 1.0
        assert np.isfinite([signs.contrast, signs.step, signs.steadiness, signs.grain, signs.border]).all()


class TestReferences:
    def test_each_is_seen_by_itself(self) -> None:
        other = np.roll(labels(), 4, axis=0)
        references, total = References(), np.zeros((4, *SHAPE), np.float32)
        for found in (labels(), other):
            total += probabilities(found)
            references(total)
        first, second = references.labels
        assert np.array_equal(first, labels()[::STEP, ::STEP, ::STEP])
        assert np.array_equal(second, other[::STEP, ::STEP, ::STEP])

    def test_agree_or_do_not(self) -> None:
        small = labels()[::STEP, ::STEP, ::STEP]
        result = probabilities(labels()), conformed(labels()), labels(), ONE_MM
        assert signs_of(*result, [small, small]).agreement == 1.0
        agreement = signs_of(*result, [small, np.roll(small, 2, axis=0)]).agreement
        assert agreement is not None
        assert agreement < 0.8
