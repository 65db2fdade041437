from __future__ import annotations

import math

import pytest

from mixpriv.bundle import Limit
from mixpriv.errors import InputError, UnfitScanError
from mixpriv.quality.check import Measure, judge, judged, require_fit, require_names

SIZE = Measure("volume", "ml", "too small", "too large")
BOTH = Limit(warn_below=10, warn_above=20, refuse_below=5, refuse_above=30)


@pytest.mark.parametrize(
    ("value", "outcome", "limit", "words"),
    [
        (12, "pass", 10, "volume: 12 ml, expected at least 10 ml"),
        (10, "pass", 10, "volume: 10 ml, expected at least 10 ml"),
        (19, "pass", 20, "volume: 19 ml, expected at most 20 ml"),
        (9, "warn", 10, "volume: 9 ml, expected at least 10 ml: too small"),
        (21, "warn", 20, "volume: 21 ml, expected at most 20 ml: too large"),
        (4, "refuse", 5, "volume: 4 ml, expected at least 5 ml: too small"),
        (1234.5, "refuse", 30, "volume: 1234 ml, expected at most 30 ml: too large"),
    ],
)
def test_a_value_is_told_with_the_limit_that_it_passed(value: float, outcome: str, limit: float, words: str) -> None:
    check = judge("size", value, BOTH, SIZE)
    assert (check.name, check.value, check.unit) == ("size", value, "ml")
    assert (check.outcome, check.limit, check.words) == (outcome, limit, words)
    assert check.failed == (outcome != "pass")


def test_what_is_no_number_fails() -> None:
    assert judge("size", math.nan, BOTH, SIZE).outcome == "refuse"
    assert judge("size", math.nan, Limit(warn_above=1), SIZE).outcome == "warn"


def test_a_limit_without_an_end_is_no_limit() -> None:
    with pytest.raises(ValueError, match="expected a limit with an end"):
        judge("size", 1, Limit(), SIZE)


def test_only_what_has_a_limit_is_judged() -> None:
    checks = judged({"size": 1.0, "contrast": 2.0}, {"size": BOTH}, {"size": SIZE})
    assert [check.name for check in checks] == ["size"]


def test_all_that_is_refused_is_named_and_what_the_user_named_is_not() -> None:
    checks = [judge(name, value, BOTH, SIZE) for name, value in (("a", 1), ("b", 2), ("c", 9))]
    with pytest.raises(
        UnfitScanError, match=r"x.nii: not sent: .*1 ml.*2 ml.*--send-anyway a --send-anyway b"
    ) as raised:
        require_fit("x.nii", checks, [])
    assert raised.value.checks == tuple(checks)
    assert raised.value.exit_code == 2
    with pytest.raises(UnfitScanError, match=r"nevertheless with --send-anyway b[)]"):
        require_fit("x.nii", checks, ["a"])
    require_fit("x.nii", checks, ["a", "b"])


@pytest.mark.parametrize("names", ["size", 3, ["sise"], [3]])
def test_names_are_those_of_checks(names: object) -> None:
    with pytest.raises(InputError, match="send_anyway: expected"):
        require_names(names, ["size"])  # type: ignore[arg-type]
    assert require_names(["size"], ["size"]) == ("size",)
