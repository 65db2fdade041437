"""Each attack succeeds on a case built to be weak, and is at chance where noise is sent in place of the scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixpriv.audit.attacks import bank, labels, requests, reuse, side_channels
from mixpriv.audit.findings import Outcome
from mixpriv.audit.phantoms import phantom_people, phantom_world
from mixpriv.audit.views import Mode
from tests.audit.conftest import EFFORT, Stage

BLIND = Mode("blind", mixes=True, blind=True)


def values(outcome: Outcome) -> dict[str, float]:
    return {one.figure: one.value for one in outcome.findings}


class TestBank:
    def test_a_reference_that_the_server_holds_is_found_and_subtracted(self, stage: Stage) -> None:
        found = values(bank.attack(stage.scene(Mode("weak", mixes=True, weight=0.3))))
        assert found["right reference found, superset bank"] == 1.0
        assert found["SSIM over template, superset bank"] > 0.2
        assert found["rank-1, best way, superset bank"] == 1.0
        assert found["SSIM over template, superset bank"] > found["SSIM over template, same-distribution bank"] + 0.1

    def test_noise(self, stage: Stage) -> None:
        found = values(bank.attack(stage.scene(BLIND)))
        assert found["right reference found, superset bank"] <= 0.5
        assert found["SSIM over template, superset bank"] < 0


class TestRequests:
    def test_many_mixtures_approach_the_scan(self, stage: Stage) -> None:
        found = values(requests.attack(stage.scene(Mode("weak", mixes=True, weight=0.4))))
        assert found["SSIM over one request, mean of 4"] > 0.05
        assert found["SSIM over one request, learned of 4"] > 0.05
        assert found["rank-1, best way, mean of 4"] == 1.0

    def test_noise(self, stage: Stage) -> None:
        found = values(requests.attack(stage.scene(BLIND)))
        assert all(found[f"SSIM over template, {name} of 4"] < 0.05 for name in ("mean", "median", "ICA", "learned"))

    def test_independent_sources_are_separated(self) -> None:
        random = np.random.default_rng(0)
        sources = random.random((3, 16, 16, 16)) ** 8
        shares = np.array([[0.6, 0.4, 0.1], [0.6, 0.1, 0.4], [0.5, 0.3, 0.3]])
        stack = np.tensordot(shares, sources, 1).astype(np.float32)
        assert np.corrcoef(requests.independent(stack).ravel(), sources[0].ravel())[0, 1] > 0.95
        assert np.corrcoef(stack.mean(axis=0).ravel(), sources[0].ravel())[0, 1] < 0.95


class TestReuse:
    def test_a_reused_reference_is_told(self, stage: Stage) -> None:
        found = values(reuse.attack(stage.scene(Mode("weak", mixes=True, weight=0.2))))
        assert found["AUC, same reference, if reused"] > 0.95

    def test_noise(self, stage: Stage) -> None:
        found = values(reuse.attack(stage.scene(BLIND)))
        assert found["AUC, same reference, if reused"] == pytest.approx(0.5, abs=0.3)


class TestLabels:
    def test_the_answer_to_a_raw_scan_is_its_segmentation(self, stage: Stage) -> None:
        found = values(labels.attack(stage.scene(Mode("weak"))))
        assert found["Dice over atlas prior, the answer as it is"] > 0.3
        assert found["rank-1, best way, labels by the answer as it is"] == 1.0

    def test_noise(self, stage: Stage) -> None:
        found = values(labels.attack(stage.scene(BLIND)))
        assert all(value < 0.05 for figure, value in found.items() if figure.startswith("Dice"))


def test_costly_attacks_under_several_keys(stage: Stage) -> None:
    scene = stage.scene(Mode("weak", mixes=True, weight=0.3), replace(EFFORT, queries=3, costly_keys=2))
    assert len(scene.costly) == len(scene.answered) == 6
    first, second = scene.costly[0], scene.costly[3]
    assert first.visit is second.visit
    assert not np.array_equal(first.view.image, second.view.image)
    for attack in (bank, requests, reuse, labels):
        assert values(attack.attack(scene))


class TestSideChannels:
    def test_a_mixture_tells_its_weight(self, stage: Stage) -> None:
        found = values(side_channels.attack(stage.scene(Mode("weak", mixes=True))))
        assert found["R², weight"] > 0.5
        assert found["identifying fields"] == 0
        assert found["sizes of requests"] == 1

    def test_a_warp_is_guessed_by_registration(self) -> None:
        world = phantom_world(4.0)  # that of the published audit: on the stage's coarser grid a warp is hardly seen
        finer = Stage(world, phantom_people(world, 14, 8))
        bent = Mode("weak", mixes=True, weight=0.3, warp_mm=8.0)  # as there
        assert values(side_channels.attack(finer.scene(bent)))["R², displacement"] > 0.1

    def test_a_warp_is_guessed_by_somebody_who_knows_what_was_bent(self, stage: Stage) -> None:
        for visit in stage.people.queries[:6]:
            alone = replace(stage.people, queries=(visit,))
            scene = replace(stage.scene(Mode("weak", warp_mm=8.0)), people=alone, template=visit.image)
            assert values(side_channels.attack(scene))["R², displacement"] > 0.15

    def test_noise(self, stage: Stage) -> None:
        blind = Mode("blind", mixes=True, warp_mm=8.0, blind=True)
        found = values(side_channels.attack(stage.scene(blind, replace(EFFORT, keys=2, queries=3))))
        assert found["R², weight"] < 0.2
        assert found["R², displacement"] < 0.1


class TestLearned:
    """A2 and A6; they need PyTorch."""

    def test_a_siamese_network_links_raw_scans(self, stage: Stage) -> None:
        siamese = pytest.importorskip("mixpriv.audit.attacks.siamese")
        few = replace(EFFORT, steps=25)
        assert values(siamese.attack(stage.scene(Mode("weak"), few)))["AUC"] > 0.8
        assert values(siamese.attack(stage.scene(BLIND, few)))["AUC"] == pytest.approx(0.5, abs=0.25)

    def test_a_separator_recovers_a_weak_mixture(self, stage: Stage) -> None:
        separation = pytest.importorskip("mixpriv.audit.attacks.separation")
        few = replace(EFFORT, steps=15, queries=3)
        found = values(separation.attack(stage.scene(Mode("weak", mixes=True, weight=0.9), few)))
        assert found["SSIM over template, supervised"] > 0.05
        blind = values(separation.attack(stage.scene(BLIND, few)))
        assert blind["SSIM over template, supervised"] < 0.05

    def test_the_loss_does_not_mind_which_comes_first(self) -> None:
        torch = pytest.importorskip("torch")
        separation = pytest.importorskip("mixpriv.audit.attacks.separation")
        truth = torch.rand(3, 2, 4, 4, 4)
        assert float(separation.permutation_invariant_loss(truth.flip(1), truth)) == 0.0
        assert float(separation.permutation_invariant_loss(truth + 0.1, truth)) == pytest.approx(0.1, abs=1e-6)
