"""Synthetic scans: shaped and scaled as the client's, labelled exactly, repeatable."""

from __future__ import annotations

import numpy as np
import torch

from mixpriv.bundle import Alignment
from mixpriv.training.data.atlas import fit_reference_model, grid_to_head
from mixpriv.training.data.labels import FIRST_OUTER, INTENSITY_CLASSES, TISSUE_OF, TISSUES, Head
from mixpriv.training.data.synth import Augmentation, class_means, normalise, synthesise

ALIGNMENT = Alignment((18.0, 20.0, 18.0), (31.5, 31.5, 31.5))
SHAPE = (64, 64, 64)
WINDOW = (slice(0, 64), slice(8, 56), slice(16, 64))
STILL = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0)


def scan(head: Head, seed: int, augmentation: Augmentation = STILL) -> tuple[torch.Tensor, torch.Tensor]:
    return synthesise(head, grid_to_head(head, ALIGNMENT, 1.5), WINDOW, np.random.default_rng(seed), augmentation)


class TestSynthesise:
    def test_shape_range_and_classes(self, head: Head) -> None:
        image, tissue = scan(head, 0, Augmentation())
        assert image.shape == tissue.shape == (64, 48, 48)
        assert image.min() >= 0.0
        assert image.max() <= 1.0
        assert set(np.unique(tissue.numpy())) <= set(range(len(TISSUES)))

    def test_same_seed_same_scan(self, head: Head) -> None:
        first, second = scan(head, 7, Augmentation()), scan(head, 7, Augmentation())
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])

    def test_other_seed_other_scan(self, head: Head) -> None:
        assert not torch.equal(scan(head, 1)[0], scan(head, 2)[0])

    def test_the_centre_is_put_where_the_alignment_says(self, head: Head) -> None:
        _, tissue = scan(head, 3)
        # the phantom's ventricle is at its centroid: grid (31.5, 31.5, 31.5), less the window's start
        where = np.argwhere(tissue.numpy() == TISSUES.index("internal CSF")).mean(0)
        np.testing.assert_allclose(where, (31.5, 23.5, 15.5), atol=0.6)

    def test_outside_the_head_is_zero(self, head: Head) -> None:
        image, tissue = scan(head, 4)
        assert image[0, 0, 0] == 0
        assert tissue[0, 0, 0] == 0


class TestIntensities:
    def test_t1_ordering(self) -> None:
        for seed in range(50):
            means = dict(zip(INTENSITY_CLASSES, class_means(np.random.default_rng(seed)), strict=False))
            assert means["cerebral_wm"] > means["cortex"] > means["csf"]
            assert means["cortex"] > means["ventricle"]

    def test_normalise_is_zero_outside_and_spans_the_range_inside(self) -> None:
        image = torch.arange(8000.0).reshape(20, 20, 20)
        mask = image > 4000
        out = normalise(image, mask)
        assert out[~mask].abs().max() == 0
        assert out.max() == 1.0


class TestAtlas:
    def test_probabilities_sum_to_one_and_lie_right(self, head: Head) -> None:
        model = fit_reference_model([head], ALIGNMENT, SHAPE, 1.5, 2.0)
        np.testing.assert_allclose(model.atlas.astype(int).sum(0), 255, atol=8)
        centre = tuple(n // 2 for n in model.atlas.shape[1:])
        assert model.atlas[(INTENSITY_CLASSES.index("ventricle"), *centre)] > 200
        assert model.atlas[0, 0, 0, 0] == 255

    def test_outer_structures_are_background(self, head: Head) -> None:
        assert len(TISSUE_OF) == len(INTENSITY_CLASSES) < FIRST_OUTER
