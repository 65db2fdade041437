"""The accuracy table: what is averaged over what, and its controls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixpriv.audit.findings import Finding
from mixpriv.bundle import load_bundle
from mixpriv.datasets import find_crops, find_heads
from mixpriv.errors import InputError
from mixpriv.evaluation.evaluator import Cost, Linkage
from mixpriv.evaluation.method_id import MethodId
from mixpriv.evaluation.methods import to_answer
from mixpriv.evaluation.metrics import Score, dice, hd95_mm, volume_similarity
from mixpriv.evaluation.pooling import average, common_parts, each_training, pool
from mixpriv.evaluation.report import (
    against_plain,
    against_the_client_alone,
    at_equal_linkage,
    plot,
    read_scores,
    table,
    the_worst,
    write_scores,
)
from mixpriv.evaluation.subjects import difference, per_subject
from mixpriv.protection.reference import ReferenceModel
from mixpriv.statistics import bootstrap


def score(method: str, subject: str, case: str, label: int, value: float) -> Score:
    return Score(MethodId.parse(method), subject, case, label, value, 2.0, 0.9)


def linkage(first: float, above: float) -> Linkage:
    figures = (("rank-1, best way", first), ("AUC, best way", above))
    return Linkage(*(Finding("A1", "m", name, v, v - 0.1, v + 0.1, 0.5, "chance", 2, 2) for name, v in figures))


class TestCases:
    def test_a_missing_subject_is_named(self, tmp_path: Path) -> None:
        scan = tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        for name in ("sub-1_T1w.nii.gz", "sub-1_dseg.nii.gz"):
            scan.with_name(name).touch()
        assert [case.subject for case in find_heads(tmp_path, ["sub-1"])] == ["sub-1"]
        with pytest.raises(InputError, match="sub-2, got none"):
            find_heads(tmp_path, ["sub-1", "sub-2"])

    def test_a_scan_without_labels_is_no_case(self, tmp_path: Path) -> None:
        (tmp_path / "sub-1").mkdir()
        (tmp_path / "sub-1" / "sub-1_T1w.nii.gz").touch()
        with pytest.raises(InputError, match="any subject, got none"):
            find_heads(tmp_path)

    def test_crops_held_out_are_every_nth_by_name(self, tmp_path: Path) -> None:
        for folder in ("imagesTr", "labelsTr"):
            (tmp_path / folder).mkdir()
            for name in "abcdefg":
                (tmp_path / folder / f"{name}.nii.gz").touch()
        assert [case.name for case in find_crops(tmp_path, 3)] == ["c", "f"]
        assert [case.name for case in find_crops(tmp_path, 3, ["a"])] == ["a"]
        with pytest.raises(InputError, match="expected labelled crops x, got none"):
            find_crops(tmp_path, 3, ["x"])


class TestMetrics:
    def test_dice_of_known_masks(self) -> None:
        ours, truth = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
        ours[:2], truth[1:3] = True, True
        assert dice(ours, truth) == pytest.approx(0.5)
        assert dice(np.zeros_like(ours), np.zeros_like(ours)) == 1.0
        assert dice(ours, np.zeros_like(ours)) == 0.0

    def test_distance_is_in_mm_and_undefined_for_an_empty_mask(self) -> None:
        ours, truth = np.zeros((20, 8, 8), bool), np.zeros((20, 8, 8), bool)
        ours[2:6, 2:6, 2:6], truth[5:9, 2:6, 2:6] = True, True
        assert hd95_mm(ours, truth, (1.0, 1.0, 1.0)) == pytest.approx(3.0)
        assert hd95_mm(ours, truth, (2.0, 1.0, 1.0)) == pytest.approx(6.0)
        assert hd95_mm(ours, ours, (1.0, 1.0, 1.0)) == 0.0
        assert np.isnan(hd95_mm(ours, np.zeros_like(ours), (1.0, 1.0, 1.0)))

    def test_volume_similarity(self) -> None:
        one, other = np.zeros(10, bool), np.zeros(10, bool)
        one[:2], other[4:10] = True, True
        assert volume_similarity(one, other) == pytest.approx(0.5)
        assert volume_similarity(one, one) == 1.0


class TestStatistics:
    def test_visits_count_as_one_person(self) -> None:
        scores = [
            score("none", "sub-1", "sub-1_ses-1", 1, 0.6),
            score("none", "sub-1", "sub-1_ses-2", 1, 0.8),
            score("none", "sub-2", "sub-2_ses-1", 1, 0.9),
            score("none", "sub-2", "sub-2_ses-1", 5, 0.0),
            score("mixup, a drawn", "sub-2", "sub-2_ses-1", 1, 0.1),
        ]
        assert per_subject(scores, MethodId("none"), [1]) == pytest.approx({"sub-1": 0.7, "sub-2": 0.9})

    def test_interval_holds_the_mean_and_shrinks_with_agreement(self) -> None:
        mean, low, high = bootstrap(np.array([0.7, 0.8, 0.9]))
        assert low < mean < high
        assert bootstrap(np.full(5, 0.8)) == pytest.approx((0.8, 0.8, 0.8))

    def test_the_table_pairs_subjects_with_themselves(self) -> None:
        classes = load_bundle().classes
        scores = []
        for label in range(1, len(classes)):
            for subject, plain in (("sub-1", 0.9), ("sub-2", 0.5)):
                scores.append(score("none", subject, subject, label, plain))
                scores.append(score("mixup, a drawn", subject, subject, label, plain - 0.1))
        mixed = MethodId("mixup")
        mixup = next(
            line
            for line in table(scores, classes, (1, 2, 3, 4), {mixed: Cost(8, 4)}, {mixed: linkage(0.5, 0.75)})
            if line.startswith("| mixup")
        )
        assert "-0.100 [-0.100, -0.100]" in mixup
        assert mixup.rstrip("| ").endswith("8 + 4 | 0.50 [0.40, 0.60], 0.75 | sub-2 0.400")
        assert difference(scores, MethodId("none"), mixed, (1,)) == pytest.approx([0.1, 0.1])

    def test_controls_are_told_apart_in_pairs(self) -> None:
        scores = [
            score(method, subject, subject, 1, value)
            for method, value in (("mixup, a drawn", 0.8), ("D, answer blanked", 0.5))
            for subject in ("sub-1", "sub-2")
        ]
        (line,) = against_the_client_alone(scores, (1,))
        assert line == "- *mixup, a drawn* less *D, answer blanked*: 0.300 [0.300, 0.300]: the server adds"
        worse = [score(str(s.method), s.subject, s.case, s.label, 1 - s.dice) for s in scores]
        assert against_the_client_alone(worse, (1,))[0].endswith(
            "-0.300 [-0.300, -0.300]: **the client does better alone**"
        )

    def test_scores_come_back_from_their_file(self, tmp_path: Path) -> None:
        scores = [
            score("none", "sub-1", "sub-1", 1, 0.25),
            Score(MethodId("none"), "sub-2", "sub-2", 1, 0.0, float("nan"), 0.5),
        ]
        write_scores(scores, tmp_path / "s.csv")
        again = read_scores(tmp_path / "s.csv")
        assert again[0] == scores[0]
        assert np.isnan(again[1].hd95_mm)

    def test_files_are_pooled_only_if_they_are_alike_and_apart(self, tmp_path: Path) -> None:
        paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
        parts = [("none", "sub-1"), ("none", "sub-2"), ("mixup, a drawn", "sub-3")]
        for path, (method, subject) in zip(paths, parts, strict=True):
            write_scores([score(method, subject, subject, 1, 0.5)], path)
        assert [s.subject for s in pool(paths[:2])] == ["sub-1", "sub-2"]
        with pytest.raises(InputError, match=r"c\.csv: expected the methods of a\.csv, got others"):
            pool(paths)
        with pytest.raises(InputError, match=r"a\.csv: expected scans that no other file has, got sub-1 again"):
            pool([paths[0], paths[0]])

    def test_trainings_are_averaged_scan_by_scan(self, tmp_path: Path) -> None:
        paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
        for path, values in zip(paths, ((0.5, 0.7), (0.7, 0.9), (0.5,)), strict=True):
            write_scores([score("none", f"sub-{n}", f"sub-{n}", 1, v) for n, v in enumerate(values)], path)
        assert [s.dice for s in average(paths[:2])] == pytest.approx([0.6, 0.8])
        assert each_training(paths[:2], (1,))[-1] == "| none | 0.600 | 0.800 | 0.141 |"
        with pytest.raises(InputError, match=r"a\.csv: expected the same scans in every file, got sub-1 in 2"):
            average(paths)

    def test_trainings_are_averaged_over_what_all_measured(self, tmp_path: Path) -> None:
        paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
        for path, methods in zip(paths, (("none", "warp, 2 mm"), ("none",), ("other",)), strict=True):
            write_scores([score(method, "sub-1", "sub-1", 1, 0.5) for method in methods], path)
        assert [str(s.method) for s in average(paths[:2])] == ["none"]
        assert common_parts(paths[:2])[1] == [MethodId("warp", strength=2.0)]
        with pytest.raises(InputError, match=r"c\.csv: expected a method of a\.csv, got others"):
            average(paths)

    def test_what_is_lost_to_plain_segmentation_is_paired(self) -> None:
        values = {"none": 0.8, "mixup, a drawn": 0.7, "warp, 4 mm": 0.6, "seeing: mixup, a drawn": 0.1}
        scores = [score(method, "sub-1", "sub-1", 1, value) for method, value in values.items()]
        assert against_plain(scores, (1,)) == []
        lines = against_plain([*scores, score("plain: none", "sub-1", "sub-1", 1, 0.9)], (1,))
        assert [line.split(":")[0] for line in lines[3:]] == [
            f"- *{method}* less *plain" for method in ("none", "mixup, a drawn", "warp, 4 mm")
        ]
        assert lines[3].endswith("-0.100 [-0.100, -0.100]")

    def test_other_methods_are_set_against_what_is_hidden_as_well(self) -> None:
        values = {"mixup, a = 0.7": (0.8, 0.9), "shielded, a = 0.2": (0.7, 0.2), "linear unmixing, a = 0.2": (0.9, 0.2),
                  "warp, 8 mm": (0.65, 0.3), "noise, 0.1": (0.82, 1.0), "warp, 9 mm": (0.1, 0.1)}  # fmt: skip
        scores = [score(method, "sub-1", "sub-1", 1, dice) for method, (dice, _) in values.items()]
        linked = {MethodId.parse(method): linkage(first, 0.9) for method, (_, first) in values.items()}
        assert at_equal_linkage(scores, linked, (1,))[3:] == [
            "- *shielded, a = 0.2*, linked 0.20, less *warp, 8 mm*, linked 0.30: 0.050 [0.050, 0.050]",
            "- *mixup, a = 0.7*, linked 0.90, less *noise, 0.1*, linked 1.00: -0.020 [-0.020, -0.020]",
            "- *warp, 9 mm*, linked 0.10: no mixture is linked so seldom",
        ]
        assert at_equal_linkage(scores, {}, (1,)) == []

    def test_the_worst_is_named_with_the_class_that_makes_it(self) -> None:
        dice = {"sub-1": (0.9, 0.8), "sub-2": (0.88, 0.82), "sub-3": (0.85, 0.6)}
        scores = [score("none", s, s, label, v) for s, both in dice.items() for label, v in enumerate(both, 1)]
        said = the_worst(scores, ["background", "one", "two"], [1, 2])
        assert said == (
            "Worst in mode none: sub-3, 0.725, most of all in two: 0.600, where the others have 0.810 in the mean."
        )
        alone = [one for one in scores if one.subject == "sub-3"]
        assert the_worst(alone, ["background", "one", "two"], [1, 2]) == "Worst in mode none: sub-3, 0.725."

    def test_a_sweep_is_drawn_from_three_weights_on(self, tmp_path: Path) -> None:
        scores = [score("none", "sub-1", "sub-1", 1, 0.9)]
        for weight in (0.3, 0.5, 0.7):
            assert not plot(scores, (1,), {MethodId("none"): linkage(1, 1)}, tmp_path / "p.png")
            for method in ("mixup", "linear unmixing"):
                scores.append(score(f"{method}, a = {weight}", "sub-1", "sub-1", 1, weight))
        assert plot(scores, (1,), {MethodId("none"): linkage(1, 1)}, tmp_path / "p.png")
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


class TestAverageAnatomy:
    def test_probabilities_sum_to_one_and_make_an_answer(self) -> None:
        bundle = load_bundle()
        average = ReferenceModel.load(bundle.reference_path).average()
        assert average.shape == (len(bundle.classes), *bundle.grid_shape)
        np.testing.assert_allclose(average.sum(0), 1, atol=0.03)
        answer = to_answer(average)
        assert answer.dtype == np.uint8
        assert answer.shape == (len(bundle.classes) - 1, *bundle.grid_shape)
        middle = tuple(n // 2 for n in bundle.grid_shape)
        assert answer[(slice(None), *middle)].sum() > 200  # brain, not background, in the middle
