from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mixpriv.bundle import Bundle
from mixpriv.engine import Engine
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess import extraction as brain
from mixpriv.imaging.preprocess.extraction import conform, extract_brain, load_extractor
from mixpriv.imaging.volume import Volume
from tests.support.phantom import brain_scan


def with_voxels(scan: Volume, voxels: np.ndarray) -> Volume:
    return replace(scan, voxels=np.asfortranarray(voxels, dtype=np.float32))


@pytest.fixture
def extractor(bundle: Bundle) -> Engine:
    return load_extractor(bundle)


class TestExtraction:
    def test_a_brain_is_found_whole(self, extractor: Engine, bundle: Bundle) -> None:
        scan, truth = brain_scan()
        brain = extract_brain(scan, extractor, bundle)
        assert brain.volume_ml == pytest.approx((truth > 0).sum() * scan.voxel_ml, rel=0.05)
        assert all(n % bundle.multiple == 0 for n in brain.grid.shape)

    def test_holes_belong_to_it_and_islands_do_not(self, extractor: Engine, bundle: Bundle) -> None:
        scan, _ = brain_scan()
        voxels = scan.voxels.copy()
        voxels[28:31, 34:37, 28:31] = 0
        voxels[1:8, 1:8, 1:8] = 800
        brain = extract_brain(with_voxels(scan, voxels), extractor, bundle)
        whole = extract_brain(scan, extractor, bundle)
        np.testing.assert_array_equal(brain.mask, whole.mask)
        target = conform(with_voxels(scan, voxels), brain, bundle)
        assert target.mask.sum() == pytest.approx(conform(scan, whole, bundle).mask.sum(), rel=0.02)

    def test_what_hangs_on_it_by_a_bridge_does_not(self, extractor: Engine, bundle: Bundle) -> None:
        scan, _ = brain_scan((60, 90, 60))
        voxels = scan.voxels.copy()
        voxels[28:31, 5:25, 29:30] = 800
        voxels[24:36, 2:10, 24:36] = 800
        brain = extract_brain(with_voxels(scan, voxels), extractor, bundle)
        assert brain.volume_ml == pytest.approx(extract_brain(scan, extractor, bundle).volume_ml, rel=0.02)

    def test_air_around_the_head_does_not_matter(self, extractor: Engine, bundle: Bundle) -> None:
        scan, _ = brain_scan()
        shift = np.eye(4)
        shift[:3, 3] = -30
        padded = replace(with_voxels(scan, np.pad(scan.voxels, 30)), affine=scan.affine @ shift)
        one, other = (extract_brain(s, extractor, bundle) for s in (scan, padded))
        assert one.grid.shape == other.grid.shape
        np.testing.assert_allclose(one.grid.affine, other.grid.affine, atol=0.1)
        assert (one.mask == other.mask).mean() > 0.999

    def test_a_smaller_head_is_scaled_up(self, extractor: Engine, bundle: Bundle) -> None:
        large, _ = brain_scan()
        small = replace(large, affine=np.diag([2.5, 2.5, 2.5, 1.0]))
        grids = [conform(s, extract_brain(s, extractor, bundle), bundle).grid for s in (large, small)]
        np.testing.assert_allclose(grids[1].spacing_mm / grids[0].spacing_mm, 2.5 / 3, rtol=0.02)


class TestBias:
    @pytest.fixture
    def uneven(self) -> tuple[Volume, Volume]:
        """A brain, and the same one twice as bright at the top as in the middle, half as bright at the bottom."""
        scan, _ = brain_scan((90, 108, 90), np.diag([2.0, 2.0, 2.0, 1.0]), person=1)
        return scan, with_voxels(scan, scan.voxels * np.exp(np.linspace(-0.8, 0.8, 90)))

    def test_a_brain_becomes_evenly_bright(
        self, uneven: tuple[Volume, Volume], extractor: Engine, bundle: Bundle
    ) -> None:
        even, rising = (conform(s, extract_brain(s, extractor, bundle), bundle) for s in uneven)
        inside = ndimage.binary_erosion((even.mask & rising.mask) > 0, iterations=3)
        ratio = np.log(rising.image[inside] / even.image[inside])
        assert ratio.std() < 0.1, f"{ratio.std():.2f}; .25 if nothing is taken away"

    def test_what_is_less_sure_without_its_bias_keeps_it(
        self, uneven: tuple[Volume, Volume], extractor: Engine, bundle: Bundle
    ) -> None:
        looks = 0

        def unsure_at_second(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            """The toy extractor's answer, smeared if it is the second one."""
            nonlocal looks
            looks += 1
            answer = extractor(**inputs)["brain_probability"]
            smeared = ndimage.gaussian_filter(answer, (0, 0, 6, 6, 6))
            return {"brain_probability": smeared if looks == 2 else answer}

        brain = extract_brain(uneven[1], unsure_at_second, bundle)
        assert looks == 3
        assert brain.unsure < 0.22


def nothing(scan: Volume) -> np.ndarray:
    voxels = np.zeros_like(scan.voxels)
    voxels[5, 5, 5] = 1
    return voxels


def small(scan: Volume) -> np.ndarray:
    voxels = np.zeros_like(scan.voxels)
    voxels[20:35, 20:35, 20:35] = scan.voxels[20:35, 20:35, 20:35] + 1
    return voxels


def everything(scan: Volume) -> np.ndarray:
    """As in a CT: some value everywhere."""
    return np.random.default_rng(0).normal(40, 20, scan.voxels.shape)


class TestNoBrain:
    @pytest.mark.parametrize("make", [nothing, small, everything])
    def test_is_said_in_one_line(self, make: Callable[[Volume], np.ndarray], extractor: Engine, bundle: Bundle) -> None:
        scan, _ = brain_scan()
        strange = with_voxels(replace(scan, affine=np.diag([3.5, 3.5, 3.5, 1.0])), make(scan))
        with pytest.raises(InputError, match=r"phantom: no brain found: expected 300 to 2500 ml .*, got \d+ ml$"):
            extract_brain(strange, extractor, bundle)

    def test_an_unsure_border_is_no_brain(self, extractor: Engine, bundle: Bundle) -> None:
        def unsure(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            """The toy extractor's answer, smeared: half brain, half not, over wide borders."""
            answer = extractor(**inputs)["brain_probability"]
            return {"brain_probability": ndimage.gaussian_filter(answer, (0, 0, 6, 6, 6))}

        scan, _ = brain_scan()
        with pytest.raises(InputError, match=r"unsure border \(\d+ % of its volume, at most 30 %\)$"):
            extract_brain(scan, unsure, bundle)

    def test_no_contrast(self, extractor: Engine, bundle: Bundle) -> None:
        scan, truth = brain_scan()
        flat = with_voxels(scan, truth > 0)
        brain = extract_brain(scan, extractor, bundle)
        inner = replace(brain, probability=np.where(_eroded(brain.mask), 1, 0).astype(np.float32))
        with pytest.raises(InputError, match="expected tissue contrast inside the brain, got none"):
            conform(flat, inner, bundle)

    def test_noise_alone(self, extractor: Engine, bundle: Bundle) -> None:
        """Something of a brain's size, found as one, in which nothing but noise varies."""
        scan, _ = brain_scan()
        brain = extract_brain(scan, extractor, bundle)
        noise = with_voxels(scan, np.random.default_rng(0).normal(600, 60, scan.voxels.shape))
        inner = replace(brain, probability=np.where(_eroded(brain.mask), 1, 0).astype(np.float32))
        with pytest.raises(InputError, match="expected tissues that differ, got noise alone inside the brain"):
            conform(noise, inner, bundle)


def _eroded(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_erosion(mask, iterations=4)


@given(st.integers(0, 2**32), st.tuples(*[st.integers(1, 9)] * 3), st.integers(1, 4), st.floats(0.2, 0.9))
def test_morphology_is_scipys(seed: int, shape: tuple[int, int, int], steps: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    np.testing.assert_array_equal(
        brain._eroded(mask, steps), ndimage.binary_erosion(mask, iterations=steps, border_value=1)
    )
    np.testing.assert_array_equal(brain._without_holes(mask), ndimage.binary_fill_holes(mask))


@given(st.integers(0, 2**32), st.tuples(*[st.integers(1, 14)] * 3), st.floats(0.5, 3), st.sampled_from([1.5, 3.0, 6.0]))
def test_only_the_box_around_a_component_is_looked_at(
    seed: int, shape: tuple[int, int, int], smoothness: float, spacing_mm: float
) -> None:
    noise = np.random.default_rng(seed).standard_normal(shape)
    probability = (0.5 + 3 * ndimage.gaussian_filter(noise, smoothness)).clip(0, 1).astype(np.float32)
    mask, cleaned = brain.one_component(probability, spacing_mm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brain, "box_around", lambda mask: (slice(None),) * mask.ndim)
        expected, expected_cleaned = brain.one_component(probability, spacing_mm)
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(cleaned, expected_cleaned)
