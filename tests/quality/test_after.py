"""Results are compared with what is normal, and what is odd about them is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.errors import InputError
from mixpriv.labels import Labelling
from mixpriv.quality.after import ResultChecker, judge_signs, score_of, symptoms
from mixpriv.quality.norms import FILE, NAMES, Norms, norms_of, read_norms, values
from mixpriv.quality.signs import Signs, signs_of
from tests.support.results import SPACING_MM, conformed, labels, probabilities

CLASSES = ("background", "white", "grey", "CSF")
COUNTED = (1, 2)


def good() -> Signs:
    return signs_of(probabilities(labels()), conformed(labels()), labels(), np.ones(3))


def record() -> dict[str, Any]:
    """``quality.json`` for which `good` is the norm."""
    normal = {
        name: {"mean": each.tolist(), "deviation": np.full(each.shape, 0.1).tolist()}
        for name, each in values(good(), COUNTED).items()
    }
    return {
        "schema": 1,
        "fingerprint": "0" * 64,
        "counted": list(COUNTED),
        "normal": normal,
        "drift": [0.02, 0.0],
        "age": 28,
        "best": 0.9,
        "weights": {"certainty low": 0.3, "place high": 0.1},
        "limits": {
            "score": 0.8, "certainty": 0.7, "agreement": 0.9, "volume": 2.0, "sides": 2.0, "fragments": 3.0,
            "place": 8.0, "fit": 0.8,
        },
    }  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    known = load_bundle("hippocampus")
    own = {"abbreviations": None, "colors": None, "labels": None, "spacing_mm": SPACING_MM}
    return replace(known, classes=CLASSES, fingerprint="0" * 64, directory=tmp_path, **own)


@pytest.fixture
def norms(bundle: Bundle) -> Norms:
    return norms_of(record(), bundle, Path(FILE))


class TestNorms:
    def test_are_read(self, bundle: Bundle) -> None:
        assert read_norms(bundle) is None
        (bundle.directory / FILE).write_text(json.dumps(record()))
        norms = read_norms(bundle)
        assert norms is not None
        assert norms.counted == COUNTED
        assert norms.spacing_mm == SPACING_MM
        assert set(norms.normal) == set(NAMES)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schema": 2}, "schema: expected"),
            ({"fingerprint": "1" * 64}, "made for another network"),
            ({"counted": [1, 4]}, "counted: expected a whole number from 1 to 3"),
            ({"counted": [1, 2, 3]}, "normal.certainty.mean: expected a list of 3 values"),
            ({"drift": [0.1]}, "drift: expected 2 values"),
            ({"weights": {"certainty low": -1}}, "weights.certainty low: expected a number"),
            ({"weights": {"luck": 1}}, "weights.luck: unknown field"),
            ({"limits": {"score": 1}}, "limits.certainty: missing"),
            ({"normal": {**record()["normal"], "grain": {"mean": [1], "deviation": [0]}}}, "grain.deviation: expected"),
            ({"normal": {**record()["normal"], "place": {"mean": [1], "deviation": [0]}}}, "place.mean: expected"),
            ({"best": "high"}, "best: expected a number"),
        ],
    )
    def test_of_somebody_else_are_checked(self, change: dict[str, Any], message: str, bundle: Bundle) -> None:
        with pytest.raises(InputError, match=message):
            norms_of({**record(), **change}, bundle, Path(FILE))


class TestTheScore:
    def test_of_a_normal_result_is_the_best(self, norms: Norms) -> None:
        assert set(symptoms(good(), norms).values()) == {0.0}
        assert score_of(good(), norms) == 0.9

    def test_sinks_with_each_symptom_and_not_below_nothing(self, norms: Norms) -> None:
        worse = replace(good(), certainty=good().certainty - 0.3)
        worst = replace(worse, place=good().place + 3.0)
        assert 0.9 > score_of(worse, norms) > score_of(worst, norms) > 0
        assert score_of(worst, replace(norms, weights={"place high": 10.0})) == 0

    def test_never_rises_by_what_is_odd(self, norms: Norms) -> None:
        for name in ("share", "left", "mirrored", "fragments", "spread", "certainty"):
            for factor in (0.2, 3.0):
                odd = replace(good(), **{name: factor * getattr(good(), name)})
                assert score_of(odd, norms) <= score_of(good(), norms)


class TestTheChecks:
    def test_of_a_normal_result_pass(self, norms: Norms) -> None:
        found = judge_signs(good(), norms, CLASSES)
        assert [check.name for check in found.checks] == [
            "score", "certainty", "fit", "volume", "sides", "fragments", "place",
        ]  # fmt: skip
        assert not [check for check in found.checks if check.failed]
        assert found.flags == {1: (), 2: (), 3: ()}

    def test_name_the_class_that_is_farthest_off(self, norms: Norms) -> None:
        odd = replace(good(), share=good().share * np.array([1.5, 0.1, 1.0]))
        found = judge_signs(odd, norms, CLASSES)
        (check,) = [check for check in found.checks if check.failed]
        assert check.name == "volume"
        assert check.words.startswith("volume of grey: ")
        assert check.words.endswith("ml: less than adults have")
        assert found.flags[2] == ("volume",)
        assert found.flags[3] == ()

    def test_of_the_whole_result_flag_every_class(self, norms: Norms) -> None:
        found = judge_signs(replace(good(), certainty=good().certainty - 0.4), norms, CLASSES)
        assert found.flags == dict.fromkeys((1, 2, 3), ("score", "certainty"))

    def test_of_volumes_know_the_age(self, norms: Norms) -> None:
        def fails(age: float | None, factor: float) -> bool:
            odd = replace(good(), share=good().share * np.array([factor, 1.0, 1.0]))
            return any(check.failed for check in judge_signs(odd, norms, CLASSES, age).checks)

        # this class grows by 2 % a year; .2 of the logarithm is allowed beside that
        assert [fails(28, factor) for factor in (0.7, 1.0, 1.4)] == [True, False, True]
        assert [fails(68, factor) for factor in (1.0, 2.2, 3.5)] == [True, False, True]
        assert [fails(None, factor) for factor in (0.5, 1.0, 2.2, 6.0)] == [True, False, False, True]

    def test_of_volumes_say_nothing_of_children(self, norms: Norms) -> None:
        assert "volume" not in [check.name for check in judge_signs(good(), norms, CLASSES, 10).checks]

    @pytest.mark.parametrize(("agreement", "outcome"), [(0.95, "pass"), (0.5, "warn")])
    def test_of_several_references_say_whether_they_agree(self, agreement: float, outcome: str, norms: Norms) -> None:
        found = {c.name: c for c in judge_signs(replace(good(), agreement=agreement), norms, CLASSES).checks}
        assert found["agreement"].outcome == outcome

    def test_of_a_bundle_without_norms_are_none(self, bundle: Bundle) -> None:
        found = ResultChecker.of(bundle)(probabilities(labels()), conformed(labels()), labels(), np.ones(3))
        assert (found.checks, found.flags) == ((), {})


def test_flags_are_told_of_the_values_that_are_written(bundle: Bundle) -> None:
    labelling = Labelling.of(bundle)
    assert labelling.by_value({1: ("score",), 2: ("score", "volume"), 3: ()}) == {
        1: ("score",), 2: ("score", "volume"), 3: (),
    }  # fmt: skip
    merged = replace(labelling, values=(((0,),), ((2,), (41,))), merges=(0, 1, 1, 1))
    assert merged.by_value({1: ("score",), 2: ("score", "volume"), 3: ()}) == dict.fromkeys(
        (2, 41), ("score", "volume")
    )
