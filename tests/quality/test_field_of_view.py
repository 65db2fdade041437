"""Whether a brain is cut off, and whether voxels are those of an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixpriv.imaging.device import CPU
from mixpriv.imaging.resample import Conformed, Grid, brain_grid, sample
from mixpriv.imaging.volume import Volume
from mixpriv.quality.field_of_view import edge_cm2, flat_percent
from tests.support.phantom import brain_scan
from tests.support.toybundle import write_toy_bundle


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volume, Conformed]:
    """A scan of a head around which nothing is cut off, and the same in a bundle's grid."""
    scan, labels = brain_scan()
    random = np.random.default_rng(3)
    scan = replace(scan, voxels=scan.voxels + np.asfortranarray(random.uniform(1, 9, scan.shape), np.float32))
    bundle = write_toy_bundle(tmp_path_factory.mktemp("toy"))
    grid = brain_grid(labels > 0, Grid(scan.shape, scan.affine), bundle)
    inside = Volume(np.asfortranarray(labels > 0, np.float32), scan.affine, None, "mask")
    mask = (sample(inside, grid, np.ones(grid.shape, np.uint8), grid, CPU).image > 0.5).astype(np.uint8)
    return scan, sample(scan, grid, mask, grid, CPU)


def without(scan: Volume, axis: int, first: int, last: int, *, fill: float | None = None) -> Volume:
    """The planes ``first`` to ``last`` along an axis alone; the others gone or of one value."""
    kept = tuple(slice(first, last) if a == axis else slice(None) for a in range(3))
    if fill is not None:
        voxels = np.full_like(scan.voxels, fill)
        voxels[kept] = scan.voxels[kept]
        return Volume(voxels, scan.affine, None, "filled")
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, axis] * first
    return Volume(np.asfortranarray(scan.voxels[kept]), affine, None, "cut")


def test_a_brain_with_air_around_it_touches_nothing(place: tuple[Volume, Conformed]) -> None:
    assert edge_cm2(*place) == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("fill", [None, 0.0, 25.0])
@pytest.mark.parametrize("end", ["first", "last"])
def test_a_brain_that_is_cut_through_its_middle(
    axis: int, fill: float | None, end: str, place: tuple[Volume, Conformed]
) -> None:
    scan, conformed = place
    half = scan.shape[axis] // 2
    cut = without(scan, axis, *((0, half) if end == "first" else (half, scan.shape[axis])), fill=fill)
    semi_axes = np.delete([6.8, 8.5, 6.5], axis)
    assert edge_cm2(cut, conformed) > 0.9 * np.pi * semi_axes.prod()


def test_a_brain_whose_crown_touches_the_edge(place: tuple[Volume, Conformed]) -> None:
    scan, conformed = place
    crown = round(scan.shape[2] / 2 + 63 / 3)
    assert 1 < edge_cm2(without(scan, 2, 0, crown), conformed) < 40


def test_a_head_in_which_the_brain_ends_some_mm_before_the_cut(place: tuple[Volume, Conformed]) -> None:
    """There is no skull: of a stripped brain the same distance is nothing to tell of."""
    scan, stripped = place
    head = replace(stripped, images=np.where(stripped.mask, stripped.images, np.float32(500)))
    end = round(scan.shape[2] / 2 + 65 / 3) + 1
    cut = without(scan, 2, 0, end)
    assert edge_cm2(cut, stripped) == 0
    assert edge_cm2(cut, head) > 5
    assert edge_cm2(scan, head) == 0


def test_flat_voxels_are_those_of_a_label_map(place: tuple[Volume, Conformed]) -> None:
    scan, conformed = place
    assert flat_percent(scan, conformed) < 1
    labels = Volume(np.asfortranarray(brain_scan()[1], np.float32), scan.affine, None, "labels")
    assert flat_percent(labels, conformed) > 60
    every = np.asfortranarray(scan.voxels[::2, ::2, ::2].repeat(2, 0).repeat(2, 1).repeat(2, 2))
    assert flat_percent(Volume(every, scan.affine, None, "nearest neighbour"), conformed) < 15
