"""Scans are made worse on purpose, the score is calibrated on the results, and a page tells how it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.evaluation.degradation import KINDS, degrade
from mixpriv.evaluation.quality_fit import BAD, calibrate, encode_norms, mean_dice
from mixpriv.evaluation.quality_page import auc, write_page
from mixpriv.evaluation.quality_runs import AS_IT_IS, CALIBRATE, REPORT, Trial, encode, read_trials
from mixpriv.imaging.volume import Volume
from mixpriv.quality.after import score_of
from mixpriv.quality.norms import norms_of
from mixpriv.quality.signs import signs_of
from tests.support.results import SPACING_MM, conformed, labels, probabilities

COUNTED = (1, 2)


def scan() -> Volume:
    """Balls of three greys, nothing around them."""
    grey = np.kron(1000 * np.array([0, 0.9, 0.5, 0.2])[labels()], np.ones((2, 2, 2)))  # thick slices leave enough
    return Volume(np.asfortranarray(grey, np.float32), np.diag([2.0, 2.0, 2.0, 1.0]), None, "scan")


@pytest.mark.parametrize("kind", KINDS)
class TestDegradation:
    def test_is_the_same_for_the_same_seed(self, kind: str) -> None:
        one, other = (degrade(scan(), kind, 0.5, np.random.default_rng(3)) for _ in range(2))
        assert np.array_equal(one.voxels, other.voxels)
        assert np.array_equal(one.affine, other.affine)

    def test_changes_the_scan_and_leaves_what_is_empty(self, kind: str) -> None:
        worse = degrade(scan(), kind, 0.9, np.random.default_rng(0))
        if worse.voxels.shape == scan().voxels.shape:
            assert not (np.array_equal(worse.voxels, scan().voxels) and np.array_equal(worse.affine, scan().affine))
            assert (worse.voxels[scan().voxels == 0] == 0).all()
        else:
            assert worse.voxels.size < scan().voxels.size


def trial(person: int, part: str, wrong: int) -> Trial:
    """The result of somebody, moved by so many voxels: the farther, the worse."""
    moved = np.roll(labels(), wrong, axis=1)
    rng = np.random.default_rng([person, wrong])
    sure = probabilities(moved, 0.9 - 0.05 * wrong + 0.01 * rng.random())
    signs = signs_of(sure, conformed(labels(), 0.01), moved, np.ones(3))
    dice = 0.95 - 0.08 * wrong + 0.01 * rng.random()
    return Trial(f"p{person}", part, AS_IT_IS if not wrong else "motion", wrong / 5, "none", (dice, dice, 0.1), signs)


@pytest.fixture
def bundle() -> Bundle:
    known = load_bundle("hippocampus")
    names = ("background", "white matter", "grey matter", "CSF")
    return replace(known, classes=names, abbreviations=None, colors=None, labels=None, spacing_mm=SPACING_MM)


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    parts = [*[CALIBRATE] * 4, *[REPORT] * 3]
    return [trial(person, part, wrong) for person, part in enumerate(parts) for wrong in range(6)]


class TestCalibration:
    def test_makes_a_score_that_tells_bad_from_good(self, trials: list[Trial], bundle: Bundle) -> None:
        norms = calibrate([t for t in trials if t.part == CALIBRATE], bundle, COUNTED, 30)
        reported = [t for t in trials if t.part == REPORT and t.signs is not None]
        score = np.array([score_of(t.signs, norms) for t in reported if t.signs is not None])
        dice = np.array([mean_dice(t, COUNTED) for t in reported])
        assert auc(score, dice) > 0.95
        assert np.corrcoef(score, dice)[0, 1] > 0.9
        assert all(weight > 0 for weight in norms.weights.values())
        assert norms.drift[1] < 0

    def test_is_read_as_it_was_written(self, trials: list[Trial], bundle: Bundle) -> None:
        norms = calibrate([t for t in trials if t.part == CALIBRATE], bundle, COUNTED, 30)
        again = norms_of(encode_norms(norms, bundle, "by a test"), bundle, Path("quality.json"))
        signs = trials[-1].signs
        assert signs is not None
        assert score_of(signs, again) == pytest.approx(score_of(signs, norms), abs=2e-3)

    def test_trials_are_read_as_they_were_written(self, trials: list[Trial], tmp_path: Path) -> None:
        path = tmp_path / "runs"
        refused = replace(trials[0], signs=None, dice=(), mode="refused")
        path.write_text("".join(encode(t) + "\n" for t in (trials[0], refused)))
        first, second = read_trials(path)
        assert (first.case, first.dice, second) == (trials[0].case, trials[0].dice, refused)
        assert first.signs is not None
        assert trials[0].signs is not None
        np.testing.assert_allclose(first.signs.place, trials[0].signs.place, atol=1e-5)


@pytest.mark.parametrize(
    ("score", "dice", "expected"),
    [([0.1, 0.9], [0.5, 0.8], 1.0), ([0.9, 0.1], [0.5, 0.8], 0.0), ([0.5, 0.5], [0.5, 0.8], 0.5)],
)
def test_area_under_the_curve(score: list[float], dice: list[float], expected: float) -> None:
    assert auc(np.array(score), np.array(dice)) == expected
    assert np.isnan(auc(np.array(score), np.array([BAD, BAD])))


def test_the_page_tells_people_commit_and_command(trials: list[Trial], bundle: Bundle, tmp_path: Path) -> None:
    norms = calibrate([t for t in trials if t.part == CALIBRATE], bundle, COUNTED, 30)
    write_page(trials, norms, bundle, ["abc123", "Made by `a test`."], tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("---\nquestion: ")
    assert "commit: abc123" in text
    assert "3 people, 18 scans, 18 results" in text
    assert text.endswith("Made by `a test`.\n")
    assert len((tmp_path / "page.csv").read_text().splitlines()) == 1 + len(trials)
