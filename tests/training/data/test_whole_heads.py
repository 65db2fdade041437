from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mixpriv.training.data.labels import FIRST_OUTER, TISSUE_ANATOMY, Head
from mixpriv.training.data.whole_heads import paint_head, sample_head, shrunken, with_neck, without_face

SHAPE = (48, 64, 48)


def on_a_long_map(head: Head) -> Head:
    """The same head with 60 mm of soft tissue below."""
    below = np.full((*head.classes.shape[:2], 60), FIRST_OUTER + 3, np.uint8)
    return replace(
        head,
        classes=np.concatenate([below, head.classes], axis=2),
        mask=np.pad(head.mask, ((0, 0), (0, 0), (60, 0))),
        centre_mm=head.centre_mm + np.array([0, 0, 60]),
    )


class TestHeads:
    def test_a_neck_has_no_brain_and_moves_none(self, head: Head) -> None:
        long = on_a_long_map(head)
        longer = with_neck(long)
        grown = longer.classes.shape[2] - long.classes.shape[2]
        assert grown > 60
        assert not longer.mask[:, :, :grown].any()
        assert (longer.classes[:, :, :grown] > FIRST_OUTER).any()
        np.testing.assert_array_equal(longer.classes[:, :, grown:], long.classes)
        np.testing.assert_allclose(longer.centre_mm - long.centre_mm, [0, 0, grown])

    def test_a_map_that_ends_below_the_brain_gets_none(self, head: Head) -> None:
        assert with_neck(head) is head

    def test_a_brain_shrinks_inside_its_mask(self, head: Head) -> None:
        old = shrunken(head)
        csf, cortex = (TISSUE_ANATOMY.number(name) for name in ("csf", "cortex"))
        np.testing.assert_array_equal(old.mask, head.mask)
        assert np.count_nonzero(old.classes == cortex) < 0.98 * np.count_nonzero(head.classes == cortex)
        assert np.count_nonzero(old.classes == csf) > np.count_nonzero(head.classes == csf)

    def test_the_middle_is_where_it_is_asked_for(self, head: Head) -> None:
        for seed in range(5):
            classes = sample_head(head, head.centre_mm, SHAPE, 3.0, np.random.default_rng(seed))
            inside = ((classes > 0) & (classes < FIRST_OUTER)).numpy()
            np.testing.assert_allclose(np.argwhere(inside).mean(axis=0), (np.array(SHAPE) - 1) / 2, atol=4)


class TestPainting:
    def test_any_scan_is_finite_and_shows_something(self, head: Head) -> None:
        ratios = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            classes = sample_head(head, head.centre_mm, SHAPE, 3.0, rng)
            image = paint_head(classes, head, rng)
            assert bool(torch.isfinite(image).all())
            assert float(image.std()) > 0.01
            white, grey = (
                float(image[classes == TISSUE_ANATOMY.number(name)].mean()) for name in ("cerebral_wm", "cortex")
            )
            ratios.append(white / grey)
        assert min(ratios) < 1 < max(ratios), "every contrast, not T1 alone"

    def test_a_face_is_taken_away_and_no_brain(self, head: Head) -> None:
        rng = np.random.default_rng(0)
        classes = sample_head(head, head.centre_mm, SHAPE, 3.0, rng)
        brain = (classes > 0) & (classes < FIRST_OUTER)
        image = without_face(torch.ones(SHAPE), brain, rng)
        assert bool((image[brain] == 1).all())
        assert float(image[:, -1, 0].max()) == 0.0
