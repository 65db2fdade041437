from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.intensities import with_air_at_zero
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from mixpriv.imaging.volume import Volume
from mixpriv.timing import Timings
from tests.support.phantom import brain_scan

SHAPE = (24, 28, 26)


def scan_of(voxels: np.ndarray) -> Volume:
    return Volume(np.asfortranarray(voxels, dtype=np.float32), np.diag([8.0, 8.0, 8.0, 1.0]), None, "scan")


def head(seed: int = 0, noise: float = 3.0) -> np.ndarray:
    """Skin, skull and brain of 100 to 900 in air; whole numbers, so that a shift is exact."""
    index = np.stack(np.meshgrid(*(np.linspace(-1.25, 1.25, n) for n in SHAPE), indexing="ij"))
    radius = np.sqrt((index**2).sum(axis=0))
    random = np.random.default_rng(seed)
    tissue = np.select([radius < 0.5, radius < 0.75, radius < 0.85, radius < 1], [900, 600, 100, 800], 0)
    air = np.abs(random.normal(0, noise, SHAPE))
    return np.round(np.where(tissue > 0, tissue + random.normal(0, 20, SHAPE), air)).clip(0)


def stripped() -> np.ndarray:
    """A brain alone, from CSF to white matter."""
    return np.where(head() > 500, np.random.default_rng(0).integers(300, 1000, SHAPE), 0).astype(float)


def padded(voxels: np.ndarray, value: float, thick: int = 2, faces: int = 6) -> np.ndarray:
    changed = voxels.copy()
    for face in range(faces):
        axis, end = divmod(face, 2)
        np.moveaxis(changed, axis, 0)[slice(-thick, None) if end else slice(thick)] = value
    return changed


def turned(voxels: np.ndarray, value: float) -> np.ndarray:
    cosine, sine = np.cos(0.25), np.sin(0.25)
    matrix = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    middle = (np.array(SHAPE) - 1) / 2
    return np.asarray(ndimage.affine_transform(voxels, matrix, middle - matrix @ middle, order=1, cval=value))


class TestAir:
    @pytest.mark.parametrize("voxels", [head(), stripped(), head(noise=0)])
    def test_a_scan_whose_air_is_0_stays_as_it_is(self, voxels: np.ndarray) -> None:
        scan = scan_of(voxels)
        assert with_air_at_zero(scan) is scan

    @given(
        # with some constants a head looks like a CT
        st.integers(-30000, 60000).filter(lambda added: not -1110 <= added <= -890),
        st.sampled_from([head(), stripped(), head(noise=0)]),
    )
    def test_what_is_added_everywhere_does_not_matter(self, added: int, voxels: np.ndarray) -> None:
        np.testing.assert_array_equal(with_air_at_zero(scan_of(voxels + added)).voxels, scan_of(voxels).voxels)

    @given(st.floats(1e-6, 1e6), st.sampled_from([0, 40, -70]))
    def test_scale_does_not_matter(self, factor: float, added: int) -> None:
        got = with_air_at_zero(scan_of((head() + added) * factor)).voxels
        np.testing.assert_allclose(got / factor, head(), atol=1e-3)

    @given(st.integers(0, 2**32), st.floats(-1e6, 1e6), st.integers(1, 3))
    def test_stray_voxels_change_nothing_else(self, seed: int, value: float, count: int) -> None:
        voxels = head() + 50
        stray = np.random.default_rng(seed).choice(voxels.size, count, replace=False)
        changed = voxels.copy()
        changed.ravel()[stray] = value
        got = with_air_at_zero(scan_of(changed)).voxels.copy()
        got.ravel()[stray] = head().ravel()[stray]
        np.testing.assert_allclose(got, head(), atol=1.0)  # where a sample of few voxels holds the stray one

    def test_a_flipped_copy_is_shifted_alike(self) -> None:
        voxels = padded(head() + 37.3, -1024, faces=3)
        turn = np.diag([-1.0, 1.0, 1.0, 1.0])
        turn[0, 3] = SHAPE[0] - 1
        scan = scan_of(voxels)
        flipped = replace(scan_of(voxels[::-1]), affine=scan.affine @ turn)
        np.testing.assert_array_equal(with_air_at_zero(flipped).voxels[::-1], with_air_at_zero(scan).voxels)

    def test_each_modality_has_its_own(self) -> None:
        several = scan_of(head())
        both = replace(several, voxels=np.asfortranarray(np.stack([head() + 70, head() - 20], -1), dtype=np.float32))
        np.testing.assert_array_equal(with_air_at_zero(both).voxels, np.stack([head(), head()], -1))


class TestPadding:
    @given(
        st.sampled_from([-32768, -2000, -1024, -1000, -300, 300, 1500, 4095, 32767]),
        st.integers(1, 4),
        st.integers(1, 6),
        st.sampled_from([0, 60, -200]),
    )
    def test_counts_as_air(self, value: int, thick: int, faces: int, added: int) -> None:
        got = with_air_at_zero(scan_of(padded(head() + added, value, thick, faces))).voxels
        np.testing.assert_allclose(got, padded(head(), 0, thick, faces), atol=4.0)  # the air's noise

    @pytest.mark.parametrize("value", [-1024.0, 0.0, -3.0])
    def test_of_a_turned_scan(self, value: float) -> None:
        got, expected = (with_air_at_zero(scan_of(turned(head() + 100, v))).voxels for v in (value, 100))
        np.testing.assert_allclose(got, expected, atol=5.0)

    def test_zeros_where_a_face_was_taken_away(self) -> None:
        voxels = head() + 150
        voxels[:, 20:, :10] = 0
        got = with_air_at_zero(scan_of(voxels)).voxels
        assert np.abs(got[:, 20:, :10]).max() <= 4
        np.testing.assert_allclose(got[:, :20], head()[:, :20], atol=4.0)

    def test_of_two_kinds(self) -> None:
        frames = padded(head(), -400, faces=4)
        frames[:, :, :2] = -2000
        np.testing.assert_allclose(with_air_at_zero(scan_of(frames)).voxels, frames.clip(0), atol=4.0)

    def test_what_lies_around_a_stripped_brain_is_air(self) -> None:
        scored = np.where(stripped() > 0, (stripped() - 700) / 150, 0)
        got = with_air_at_zero(scan_of(scored)).voxels
        assert got[0, 0, 0] == 0
        assert np.percentile(got, 1) == 0, "0 is the mean of a z-score, no air"


class TestWholeWay:
    @pytest.mark.parametrize(
        "change",
        [
            lambda voxels: voxels + 50,
            lambda voxels: voxels + 255,
            lambda voxels: voxels + 32768,
            lambda voxels: voxels - 300,
            lambda voxels: voxels * 0.001,
            lambda voxels: voxels * 1000,
            lambda voxels: np.where(np.indices(voxels.shape).sum(0) == 0, -255, voxels),
            lambda voxels: np.where(np.indices(voxels.shape).sum(0) == 0, 32767, voxels),
            lambda voxels: np.where(np.indices(voxels.shape).min(0) == 0, -1024, voxels),
            lambda voxels: np.where(np.indices(voxels.shape).min(0) == 0, 4000, voxels + 100),
        ],
    )
    def test_what_is_sent_stays_the_same(self, change: object, bundle: Bundle) -> None:
        scan, _ = brain_scan()
        changed = replace(scan, voxels=np.asfortranarray(change(scan.voxels), dtype=np.float32))  # type: ignore[operator]
        preprocess = load_preprocessor(bundle)
        one, other = (preprocess(s, Timings()) for s in (scan, changed))
        np.testing.assert_array_equal(one.mask, other.mask)
        limits = [s.intensity_ranges[0] for s in (one, other)]
        images = [
            (s.image[s.mask > 0] - low) / (high - low) for s, (low, high) in zip((one, other), limits, strict=True)
        ]
        np.testing.assert_allclose(images[0], images[1], atol=1e-3)


def ct(seed: int = 0, noise: float = 15.0) -> np.ndarray:
    """Brain of 35 HU, skull of 1000, skin of -50, air of -1000."""
    random = np.random.default_rng(seed)
    kinds = head(noise=0)
    body = np.select([kinds > 700, kinds > 500, kinds > 0], [40, 30, 1000], -1000)
    return np.round(body + random.normal(0, noise, SHAPE))


class TestHounsfieldValues:
    @pytest.mark.parametrize(
        "voxels",
        [
            ct(),
            ct(noise=0),
            np.maximum(ct(), -1000),
            padded(ct(), -1024, 3),
            padded(ct(), -2000, 3),
            padded(ct(noise=0), -3024, 3),
            turned(ct(), -1024),
        ],
    )
    def test_a_ct_is_refused(self, voxels: np.ndarray) -> None:
        with pytest.raises(InputError, match=r"like a CT \(\d+ % of the voxels are Hounsfield values of air\)$"):
            with_air_at_zero(scan_of(voxels))

    @pytest.mark.parametrize(
        "voxels",
        [
            padded(head(), -1024, 1),
            padded(head(), -1000, 5),
            padded(head(noise=0), -1024, 2, 1),
            turned(head(), -1024),
            head() * 0.1 - 1000,
            head(noise=0) * 0.25 - 1024,
        ],
    )
    def test_a_head_with_such_a_border_or_shift_is_none(self, voxels: np.ndarray) -> None:
        assert with_air_at_zero(scan_of(voxels)).lowest == pytest.approx(0, abs=5)
