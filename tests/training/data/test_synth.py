"""Synthetic scans: shaped and scaled as the client's, labelled exactly, repeatable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mixpriv.bundle import Alignment
from mixpriv.training.data.atlas import fit_reference_model, grid_to_head
from mixpriv.training.data.labels import FIRST_OUTER, TISSUE_ANATOMY, TISSUES, Head
from mixpriv.training.data.synth import class_means, nearest, normalise, paint_scan, positions, shares_of, synthesise
from mixpriv.training.specs import Augmentation
from mixpriv.training.ventricles import towards, widen

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


class TestSubsamples:
    FINE = replace(STILL, subsamples=2)

    def test_labels_are_the_shares_of_the_classes_in_a_voxel(self, head: Head) -> None:
        image, shares = scan(head, 5, self.FINE)
        assert image.shape == shares.shape[1:]
        assert len(shares) == len(TISSUES)
        torch.testing.assert_close(shares.sum(0), torch.ones(image.shape))
        assert ((shares > 0) & (shares < 1)).any()

    def test_they_agree_with_the_labels_of_whole_voxels(self, head: Head) -> None:
        _, tissue = scan(head, 5)
        _, shares = scan(head, 5, self.FINE)
        assert (shares.argmax(0) == tissue).float().mean() > 0.95

    def test_a_voxel_has_the_mean_of_its_points(self) -> None:
        # no texture, blur or noise to speak of: half of ventricle, half of white matter
        means = class_means(np.random.default_rng(1))
        half = [torch.full((24, 24, 24), TISSUE_ANATOMY.number(name)) for name in ("cerebral_wm", "ventricle")]
        both, white, dark = (
            float(paint_scan(maps, np.random.default_rng(2), means).mean()) for maps in (half, half[:1], half[1:])
        )
        assert dark < both < white

    def test_shares_count_points(self) -> None:
        points = [
            torch.tensor([[[0, 1]]]),
            torch.tensor([[[0, 2]]]),
            torch.tensor([[[0, 1]]]),
            torch.tensor([[[1, 1]]]),
        ]
        assert shares_of(points, 3)[:, 0, 0].tolist() == [[0.75, 0.0], [0.25, 0.75], [0.0, 0.25]]


class TestVentricles:
    def test_their_walls_move_both_ways(self, head: Head) -> None:
        where = positions(np.eye(3, 4), head.classes.shape, np.random.default_rng(0), 0.0)
        number = TISSUE_ANATOMY.number("ventricle")
        classes = torch.from_numpy(head.classes)
        sizes = [
            int((nearest(classes, widen(where, head.towards_ventricles, mm)) == number).sum())
            for mm in (-1.5, 0.0, 1.5)
        ]
        assert 0 < sizes[0] < 0.8 * sizes[1] < sizes[1] < 0.8 * sizes[2]

    def test_what_is_far_from_them_stays(self, head: Head) -> None:
        where = positions(np.eye(3, 4), head.classes.shape, np.random.default_rng(0), 0.0)
        moved = widen(where, head.towards_ventricles, 1.5)
        for before, after in zip(where, moved, strict=True):
            torch.testing.assert_close(before[:20], after[:20])

    def test_without_ventricles_nothing_moves(self) -> None:
        assert not towards(np.zeros((9, 10, 11), bool)).any()


class TestIntensities:
    def test_t1_ordering(self) -> None:
        for seed in range(50):
            means = dict(zip(TISSUE_ANATOMY.intensity_classes, class_means(np.random.default_rng(seed)), strict=False))
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
        assert model.atlas[(TISSUE_ANATOMY.number("ventricle"), *centre)] > 200
        assert model.atlas[0, 0, 0, 0] == 255

    def test_outer_structures_are_background(self, head: Head) -> None:
        assert len(TISSUE_ANATOMY.class_of) == len(TISSUE_ANATOMY.intensity_classes) < FIRST_OUTER
