"""The accuracy table: what is averaged over what, and its controls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixpriv.bundle import load_bundle
from mixpriv.client.reference import ReferenceModel
from mixpriv.errors import InputError
from mixpriv.training.evaluation import (
    Score,
    average_brain,
    bootstrap,
    dice,
    find_cases,
    per_subject,
    table,
    to_answer,
)


def score(method: str, subject: str, case: str, label: int, value: float) -> Score:
    return Score(method, subject, case, label, value)


class TestCases:
    def test_a_missing_subject_is_named(self, tmp_path: Path) -> None:
        scan = tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        for name in ("sub-1_T1w.nii.gz", "sub-1_dseg.nii.gz"):
            scan.with_name(name).touch()
        assert [case.subject for case in find_cases(tmp_path, ["sub-1"])] == ["sub-1"]
        with pytest.raises(InputError, match="sub-2, got none"):
            find_cases(tmp_path, ["sub-1", "sub-2"])

    def test_a_scan_without_labels_is_no_case(self, tmp_path: Path) -> None:
        (tmp_path / "sub-1").mkdir()
        (tmp_path / "sub-1" / "sub-1_T1w.nii.gz").touch()
        with pytest.raises(InputError, match="any subject, got none"):
            find_cases(tmp_path)


class TestStatistics:
    def test_visits_count_as_one_person(self) -> None:
        scores = [
            score("none", "sub-1", "sub-1_ses-1", 1, 0.6),
            score("none", "sub-1", "sub-1_ses-2", 1, 0.8),
            score("none", "sub-2", "sub-2_ses-1", 1, 0.9),
            score("none", "sub-2", "sub-2_ses-1", 5, 0.0),
            score("mixup", "sub-2", "sub-2_ses-1", 1, 0.1),
        ]
        assert per_subject(scores, "none", [1]) == pytest.approx({"sub-1": 0.7, "sub-2": 0.9})

    def test_interval_holds_the_mean_and_shrinks_with_agreement(self) -> None:
        mean, low, high = bootstrap(np.array([0.7, 0.8, 0.9]))
        assert low < mean < high
        assert bootstrap(np.full(5, 0.8)) == pytest.approx((0.8, 0.8, 0.8))

    def test_dice_of_known_masks(self) -> None:
        ours, truth = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
        ours[:2], truth[1:3] = True, True
        assert dice(ours, truth) == pytest.approx(0.5)
        assert dice(np.zeros_like(ours), np.zeros_like(ours)) == 1.0
        assert dice(ours, np.zeros_like(ours)) == 0.0

    def test_the_table_pairs_subjects_with_themselves(self) -> None:
        bundle = load_bundle()
        scores = []
        for label in range(1, len(bundle.classes)):
            for subject, plain in (("sub-1", 0.9), ("sub-2", 0.5)):
                scores.append(score("none", subject, subject, label, plain))
                scores.append(score("mixup", subject, subject, label, plain - 0.1))
        mixup = next(line for line in table(scores, bundle) if line.startswith("| mixup"))
        assert "-0.100 [-0.100, -0.100]" in mixup
        assert mixup.rstrip("| ").endswith("sub-2 0.400")


class TestAverageBrain:
    def test_probabilities_sum_to_one_and_make_an_answer(self) -> None:
        bundle = load_bundle()
        average = average_brain(ReferenceModel.load(bundle.reference_path))
        assert average.shape == (len(bundle.classes), *bundle.grid_shape)
        np.testing.assert_allclose(average.sum(0), 1, atol=0.03)
        answer = to_answer(average)
        assert answer.dtype == np.uint8
        assert answer.shape == (len(bundle.classes) - 1, *bundle.grid_shape)
        middle = tuple(n // 2 for n in bundle.grid_shape)
        assert answer[(slice(None), *middle)].sum() > 200  # brain, not background, in the middle
