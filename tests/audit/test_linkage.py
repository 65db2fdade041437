"""Linkage finds people where it must, registers what was warped, and finds nobody in noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mixpriv.audit.attacks import linkage
from mixpriv.audit.findings import Finding
from mixpriv.audit.linkage import centre, rank
from mixpriv.audit.modes import parse_mode
from mixpriv.reid.features import fine_structure
from mixpriv.reid.registration import Registration
from tests.audit.conftest import Stage


def a1(stage: Stage, mode: str) -> dict[str, Finding]:
    return {one.figure: one for one in linkage.run(stage.context(parse_mode(mode))).findings}


class TestAttack:
    def test_raw_scans_are_linked(self, stage: Stage) -> None:
        found = a1(stage, "none")
        assert found["rank-1, best way"].value == 1.0
        assert found["rank-1, best way"].baseline == pytest.approx(1 / 6)
        assert found["SSIM over template"].value > 0.1

    def test_a_warp_alone_hides_nobody(self, stage: Stage) -> None:
        found = a1(stage, "warp=8")
        assert found["mAP, neighbours"].value == 1.0

    def test_noise_is_linked_by_chance(self, stage: Stage) -> None:
        found = a1(stage, "blind")
        assert found["mAP, best way"].value < 0.8
        assert found["AUC, neighbours"].value == pytest.approx(0.5, abs=0.3)
        assert found["SSIM over template"].value < 0


class TestRegistration:
    def test_a_shift_and_a_bend_are_found(self) -> None:
        random = np.random.default_rng(0)
        scans = [ndimage.gaussian_filter(random.standard_normal((36, 36, 36)), 1.2) for _ in range(3)]
        registration = Registration.of([fine_structure(scan, 4.0) for scan in scans])
        moved = ndimage.shift(scans[1], (2, -1, 0), order=1)
        fit = registration.fit(fine_structure(moved, 4.0))
        assert fit.pooled.argmax() == fit.registered.argmax() == fit.block.argmax() == 1
        assert fit.registered[1] > 0.8
        assert abs(float(np.vdot(fine_structure(moved, 4.0), fine_structure(scans[1], 4.0)))) < 0.2
        middle = fit.moves[1][:, 12:24, 12:24, 12:24].mean(axis=(1, 2, 3))
        assert middle == pytest.approx([-2, 1, 0], abs=0.2)


class TestRank:
    @pytest.mark.parametrize(
        ("scores", "first", "precision", "above"),
        [
            ([3.0, 2.0, 1.0], 1, 1, 1),
            ([1.0, 2.0, 3.0], 0, 1 / 3, 0),
            ([2.0, 3.0, 1.0], 0, 1 / 2, 1 / 2),
            ([2.0, 2.0, 2.0], 0, 1 / 3, 1 / 2),
        ],
    )
    def test_known_answers(self, scores: list[float], first: float, precision: float, above: float) -> None:
        ranks = rank(np.array([scores]), ["a"], ["a", "b", "c"])
        assert (ranks.first[0], ranks.precision[0], ranks.above[0]) == pytest.approx((first, precision, above))

    def test_a_scan_that_fits_everybody_is_put_in_its_place(self) -> None:
        people = [f"p{n}" for n in range(8)]
        scores = np.eye(8) + 5 * (np.arange(8) == 3)
        assert rank(scores, people, people).first.mean() == 1 / 8
        assert rank(centre(scores, people), people, people).first.mean() == 1.0
