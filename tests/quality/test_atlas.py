"""An average brain fits drawn brains, whatever their contrast, and tells which way round they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mixpriv.bundle import load_bundle
from mixpriv.imaging.resample import Conformed, Grid
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import ReferenceModel, draw_reference
from mixpriv.quality.atlas import TURNS, UPRIGHT, Atlas, Match

BUNDLE = load_bundle()
PLACE = Grid(BUNDLE.grid_shape, np.diag([1.5, 1.5, 1.5, 1.0]))


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return Atlas.of(BUNDLE)


@pytest.fixture(scope="module")
def brain() -> Conformed:
    """A brain that the generator of references drew, T1-weighted."""
    drawn = draw_reference(ReferenceModel.of(BUNDLE), Keystream(bytes(31) + b"\1"))
    return Conformed(drawn.images, drawn.mask, ((0.0, 1.0),), PLACE)


def changed(brain: Conformed, image: NDArray[np.float32], mask: NDArray[np.uint8] | None = None) -> Conformed:
    return replace(brain, images=image[None], mask=brain.mask if mask is None else mask)


def test_there_are_as_many_turns_as_a_cube_has() -> None:
    assert len(set(TURNS)) == 24
    assert UPRIGHT in TURNS


def test_a_brain_as_it_should_be(atlas: Atlas, brain: Conformed) -> None:
    match = atlas.match(brain)
    assert match.explained > 0.7
    assert match.upright > 0.1
    assert match.white_brighter > 0.85
    assert 0.5 < match.grey_to_white < 0.9
    assert match.symmetry > 0.9


@pytest.mark.parametrize("axes", [(0,), (2,), (1,), (1, 2), (0, 1, 2)])
def test_a_header_that_turns_a_brain(axes: tuple[int, ...], atlas: Atlas, brain: Conformed) -> None:
    """A mirrored one is the same to it: nobody can tell left from right."""
    match = atlas.match(changed(brain, np.flip(brain.image, axes).copy(), np.flip(brain.mask, axes).copy()))
    assert (match.upright > 0.1) == (axes == (0,))
    assert axes == (0,) or match.upright < -0.05


@pytest.mark.parametrize(
    ("levels", "grey"),
    [((0.4, 0.6, 1.0), 1.2), ((0.7, 0.9, 0.9), 1.1), ((0.7, 0.9, 0.2), 1.05)],
    ids=["T2", "PD", "FLAIR"],
)
def test_other_contrasts_fit_as_well_but_white_matter_is_not_brighter(
    levels: tuple[float, float, float], grey: float, atlas: Atlas, brain: Conformed
) -> None:
    drawn = draw_reference(ReferenceModel.of(BUNDLE), Keystream(bytes(31) + b"\1"))
    white, grey_level, csf = levels
    table = np.array([0, white, grey_level, grey_level, csf, csf], np.float32)
    match = atlas.match(changed(brain, table[drawn.labels]))
    assert match.white_brighter < 0.4
    assert match.grey_to_white > grey
    assert match.explained > 0.2


def test_what_has_no_tissues_is_no_brain(atlas: Atlas, brain: Conformed) -> None:
    flat = changed(brain, brain.mask.astype(np.float32))
    noise = changed(brain, np.random.default_rng(0).uniform(0, 1, brain.image.shape).astype(np.float32))
    for phantom in (flat, noise):
        match = atlas.match(phantom)
        assert match.white_brighter == pytest.approx(0.5, abs=0.05)
        assert match.upright < 0.3
    x, y, z = (np.indices(brain.image.shape).T - np.array([47.5, 59.5, 61.5])).T
    tube = (x**2 + y**2 < 40**2) & (abs(z) < 40)
    assert atlas.match(changed(brain, tube.astype(np.float32), tube.astype(np.uint8))).explained < 0.5


def test_half_a_brain_is_not_symmetric(atlas: Atlas, brain: Conformed) -> None:
    mask = brain.mask.copy()
    mask[:35] = 0
    assert atlas.match(changed(brain, brain.image, mask)).symmetry < atlas.match(brain).symmetry - 0.02


def test_nothing_is_changed(atlas: Atlas, brain: Conformed) -> None:
    image, mask = brain.image.copy(), brain.mask.copy()
    first, again = atlas.match(brain), atlas.match(brain)
    assert isinstance(first, Match)
    assert first == again
    np.testing.assert_array_equal(brain.image, image)
    np.testing.assert_array_equal(brain.mask, mask)
