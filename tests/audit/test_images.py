"""Similarity to the truth, beside scikit-image where both define it alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mixpriv.audit.images import matched, ms_ssim, psnr, ssim, ssim_map
from mixpriv.reid.features import Image

metrics = pytest.importorskip("skimage.metrics")

SPACING_MM = 6.0  # both windows then reach one voxel
MASK = np.pad(np.ones((20, 24, 20), bool), 4)


@pytest.fixture
def pair() -> tuple[Image, Image]:
    """A smooth image in [0, 1], and the same with noise."""
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.random(MASK.shape), 1.0)
    truth = np.where(MASK, (smooth - smooth.min()) / np.ptp(smooth), 0).astype(np.float32)
    return np.clip(truth + 0.1 * random.standard_normal(truth.shape), 0, 1).astype(np.float32), truth


def test_ssim_is_that_of_scikit_image(pair: tuple[Image, Image]) -> None:
    _, theirs = metrics.structural_similarity(
        *pair, data_range=1.0, gaussian_weights=True, sigma=2 / SPACING_MM, use_sample_covariance=False, full=True
    )
    assert ssim_map(*pair, SPACING_MM)[0] == pytest.approx(theirs, abs=1e-5)


def test_psnr_is_that_of_scikit_image(pair: tuple[Image, Image]) -> None:
    image, truth = pair
    theirs = metrics.peak_signal_noise_ratio(truth[MASK], matched(image, truth, MASK)[MASK], data_range=1.0)
    assert psnr(image, truth, MASK) == pytest.approx(theirs, abs=1e-4)


def test_contrast_is_not_the_point(pair: tuple[Image, Image]) -> None:
    _, truth = pair
    darker = (0.2 + 0.5 * truth).astype(np.float32)
    assert ssim(darker, truth, MASK, SPACING_MM) == pytest.approx(1, abs=1e-4)
    assert ms_ssim(darker, truth, MASK, SPACING_MM) == pytest.approx(1, abs=1e-4)
