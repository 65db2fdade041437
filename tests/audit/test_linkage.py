"""The linkage attack finds a person where it must, and not where nothing is to be found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.audit.linkage import Attack, Linkage, Person, fine_structure, write_report
from mixpriv.bundle import Bundle
from mixpriv.client.conform import Conformed, Grid
from tests.phantom import write_reference_model
from tests.toybundle import write_toy_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = write_toy_bundle(tmp_path_factory.mktemp("toy"))
    write_reference_model(bundle)
    return bundle


def visit(bundle: Bundle, subject: int, number: int) -> Person:
    """A visit of a person: folding of their own, noise of the visit's."""
    folds = ndimage.gaussian_filter(np.random.default_rng(subject).standard_normal(bundle.grid_shape), 1.2)
    noise = np.random.default_rng([subject, number]).standard_normal(bundle.grid_shape)
    image = (0.5 + folds + 0.02 * noise).astype(np.float32)
    mask: NDArray[np.uint8] = np.ones(bundle.grid_shape, np.uint8)
    target = Conformed(image, mask, (0.0, 1.0), Grid(bundle.grid_shape, np.eye(4)))
    return Person(f"sub-{subject}", bytes([subject, number]) * 16, target)


@pytest.fixture(scope="module")
def attack(bundle: Bundle) -> Attack:
    people = [visit(bundle, subject, 1) for subject in range(5)]
    return Attack([*people, visit(bundle, 0, 2), visit(bundle, 1, 2)], bundle)


class TestAttack:
    def test_a_raw_scan_is_linked(self, attack: Attack) -> None:
        raw = attack.link("raw", 1.0, 1)
        assert raw.rank_1 == 1.0
        assert raw.trials == 4
        assert raw.chance == pytest.approx(1 / 5)
        assert raw.own_correlation == pytest.approx(1.0, abs=1e-3)

    def test_a_weak_mixture_is_linked(self, attack: Attack) -> None:
        assert attack.link("weak", 0.9, 2).rank_1 == 1.0

    def test_less_of_the_scan_less_correlation(self, attack: Attack) -> None:
        much, little = (attack.link("", weight, 2).own_correlation for weight in (0.8, 0.2))
        assert much > little

    def test_more_views_more_correlation(self, attack: Attack) -> None:
        one, many = (attack.link("", 0.3, 1, views).own_correlation for views in (1, 6))
        assert many > one

    def test_strangers_are_found_by_chance_alone(self, attack: Attack, bundle: Bundle) -> None:
        """The positive control cannot pass on noise: the second visits belong to other people."""
        strangers = [replace(visit(bundle, 10 + i, 1), subject=f"sub-{i}") for i in range(2)]
        assert Attack([*attack.people[:5], *strangers], bundle).link("raw", 1.0, 1).rank_1 < 1.0

    def test_the_gallery_never_holds_the_query(self, attack: Attack) -> None:
        for query in attack.twice():
            gallery = attack.gallery(query)
            assert query not in gallery
            assert [attack.people[i].subject for i in gallery].count(attack.people[query].subject) == 1


def test_fine_structure_has_unit_norm() -> None:
    detail = fine_structure(np.random.default_rng(0).random((20, 20, 20)))
    assert float(np.linalg.norm(detail)) == pytest.approx(1.0, abs=1e-5)


def test_report_states_trials_and_chance(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_report([Linkage("one mixture", 0.75, 4, 0.2, 0.5)], 5, 4, "mixpriv audit", "Commit x", path)
    assert "| one mixture | 0.75 | 4 | 0.200 | 0.50 |" in path.read_text()
