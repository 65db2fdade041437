"""The limits of the shipped bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

import mixpriv
from mixpriv.bundle import load_bundle, shipped_bundles
from mixpriv.bundle_fields import CHECKS_BEFORE
from mixpriv.quality.before import MEASURES

CONFIGS = Path(mixpriv.__file__).parent / "training" / "configs"


def test_every_check_has_words() -> None:
    assert set(MEASURES) == set(CHECKS_BEFORE)


@pytest.mark.parametrize("name", shipped_bundles())
def test_a_bundle_packed_again_has_the_same_limits(name: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads configs")
    config = tomllib.loads((CONFIGS / f"{name}.toml").read_text(encoding="utf-8"))
    ends = ("warn_below", "warn_above", "refuse_below", "refuse_above")
    said = {check: tuple(limit.get(end) for end in ends) for check, limit in config["bundle"]["quality"].items()}
    bundle = load_bundle(name).quality
    assert {check: tuple(getattr(limit, end) for end in ends) for check, limit in bundle.items()} == said


@pytest.mark.parametrize("name", shipped_bundles())
def test_what_is_refused_is_worse_than_what_is_warned_of(name: str) -> None:
    for check, limit in load_bundle(name).quality.items():
        if limit.warn_below is not None and limit.refuse_below is not None:
            assert limit.refuse_below < limit.warn_below, check
        if limit.warn_above is not None and limit.refuse_above is not None:
            assert limit.refuse_above > limit.warn_above, check
        told = MEASURES[check]
        assert told.too_low or (limit.warn_below, limit.refuse_below) == (None, None)
        assert told.too_high or (limit.warn_above, limit.refuse_above) == (None, None)


def test_the_default_bundle_makes_every_check() -> None:
    assert set(load_bundle().quality) >= set(CHECKS_BEFORE)
