"""Each attack succeeds on a case built to be weak, and is at chance where noise is sent in place of the scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixpriv.audit.attacks import bank, labels, requests, reuse, side_channels
from mixpriv.audit.controls import Blind
from mixpriv.audit.findings import Outcome
from mixpriv.audit.phantoms import phantom_cohort, phantom_environment
from mixpriv.protection.modes import Mixup, Plain, Shielded
from mixpriv.protection.rivals import Warped
from tests.audit.conftest import BUDGET, Stage

BLIND = Blind(Mixup())


def values(outcome: Outcome) -> dict[str, float]:
    return {one.figure: one.value for one in outcome.findings}


class TestBank:
    def test_a_reference_that_the_server_holds_is_found_and_subtracted(self, stage: Stage) -> None:
        found = values(bank.run(stage.context(Mixup(0.3))))
        assert found["right reference found, superset bank"] == 1.0
        assert found["SSIM over template, superset bank"] > 0.2
        assert found["rank-1, best way, superset bank"] == 1.0
        assert found["SSIM over template, superset bank"] > found["SSIM over template, same-distribution bank"] + 0.1

    def test_noise(self, stage: Stage) -> None:
        found = values(bank.run(stage.context(BLIND)))
        assert found["right reference found, superset bank"] <= 0.5
        assert found["SSIM over template, superset bank"] < 0


class TestRequests:
    def test_many_mixtures_approach_the_scan(self, stage: Stage) -> None:
        found = values(requests.run(stage.context(Mixup(0.4))))
        assert found["SSIM over one request, mean of 4"] > 0.05
        assert found["SSIM over one request, learned of 4"] > 0.05
        assert found["rank-1, best way, mean of 4"] == 1.0

    def test_noise(self, stage: Stage) -> None:
        found = values(requests.run(stage.context(BLIND)))
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
        found = values(reuse.run(stage.context(Mixup(0.2))))
        assert found["AUC, same reference, if reused"] > 0.95

    def test_noise(self, stage: Stage) -> None:
        found = values(reuse.run(stage.context(BLIND)))
        assert found["AUC, same reference, if reused"] == pytest.approx(0.5, abs=0.3)


class TestLabels:
    def test_the_answer_to_a_raw_scan_is_its_segmentation(self, stage: Stage) -> None:
        found = values(labels.run(stage.context(Plain())))
        assert found["Dice over atlas prior, the answer as it is"] > 0.3
        assert found["rank-1, best way, labels by the answer as it is"] == 1.0

    def test_noise(self, stage: Stage) -> None:
        found = values(labels.run(stage.context(BLIND)))
        assert all(value < 0.05 for figure, value in found.items() if figure.startswith("Dice"))


def test_costly_attacks_under_several_keys(stage: Stage) -> None:
    context = stage.context(Mixup(0.3), replace(BUDGET, queries=3, costly_keys=2))
    assert len(context.costly) == len(context.answered) == 6
    first, second = context.costly[0], context.costly[3]
    assert first.visit is second.visit
    assert not np.array_equal(first.image, second.image)
    for attack in (bank, requests, reuse, labels):
        assert values(attack.run(context))


class TestSideChannels:
    def test_a_mixture_tells_its_weight(self, stage: Stage) -> None:
        found = values(side_channels.run(stage.context(Mixup())))
        assert found["R², weight"] > 0.5
        assert found["identifying fields"] == 0
        assert found["sizes of requests"] == 1

    def test_a_warp_is_guessed_by_registration(self) -> None:
        environment = phantom_environment(
            4.0
        )  # that of the published audit: on the stage's coarser grid a warp is hardly seen
        finer = Stage(environment, phantom_cohort(environment, 14, 8))
        bent = Shielded(0.3, 8.0, check=False)  # as there
        assert values(side_channels.run(finer.context(bent)))["R², displacement"] > 0.1

    def test_a_warp_is_guessed_by_somebody_who_knows_what_was_bent(self, stage: Stage) -> None:
        found = []
        for visit in stage.cohort.queries[:6]:
            alone = replace(stage.cohort, queries=(visit,))
            context = replace(stage.context(Warped(8.0)), cohort=alone, template=visit.image)
            found.append(values(side_channels.run(context))["R², displacement"])
        assert min(found) > 0.1
        assert np.mean(found) > 0.15

    def test_noise(self, stage: Stage) -> None:
        blind = Blind(Shielded((0.4, 0.7), 8.0, check=False))
        found = values(side_channels.run(stage.context(blind, replace(BUDGET, keys=2, queries=3))))
        assert found["R², weight"] < 0.2
        assert found["R², displacement"] < 0.1


class TestLearned:
    """A2 and A6; they need PyTorch."""

    def test_a_siamese_network_links_raw_scans(self, stage: Stage) -> None:
        siamese = pytest.importorskip("mixpriv.audit.learned.siamese")
        few = replace(BUDGET, steps=25)
        assert values(siamese.link(stage.context(Plain(), few)))["AUC"] > 0.8
        noise = stage.context(BLIND, replace(few, keys=4))
        assert values(siamese.link(noise))["AUC"] == pytest.approx(0.5, abs=0.25)

    def test_a_separator_recovers_a_weak_mixture(self, stage: Stage) -> None:
        separation = pytest.importorskip("mixpriv.audit.learned.separation")
        few = replace(BUDGET, steps=15, queries=3)
        found = values(separation.separate(stage.context(Mixup(0.9), few)))
        assert found["SSIM over template, supervised"] > 0.05
        blind = values(separation.separate(stage.context(BLIND, few)))
        assert blind["SSIM over template, supervised"] < 0.05

    def test_the_loss_does_not_mind_which_comes_first(self) -> None:
        torch = pytest.importorskip("torch")
        separation = pytest.importorskip("mixpriv.audit.learned.separation")
        truth = torch.rand(3, 2, 4, 4, 4)
        assert float(separation.permutation_invariant_loss(truth.flip(1), truth)) == 0.0
        assert float(separation.permutation_invariant_loss(truth + 0.1, truth)) == pytest.approx(0.1, abs=1e-6)
