"""Left and right of a made-up brain: two halves with pairs of nuclei in them, and a fissure that is not flat."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mixpriv.imaging.midplane import midsurface

SHAPE, SPACING_MM = (96, 128, 112), 1.5


def rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    matrix, (p, q), angle = np.eye(3), [a for a in range(3) if a != axis], np.deg2rad(degrees)
    matrix[p, p] = matrix[q, q] = np.cos(angle)
    matrix[p, q], matrix[q, p] = -np.sin(angle), np.sin(angle)
    return matrix


def brain(
    turned: NDArray[np.float64], bend_mm: float = 0.0, larger: float = 1.0, without: str = ""
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Classes that have sides (cortex 1, two pairs of nuclei 2 and 3) and which voxels are truly right."""
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1) - (np.array(SHAPE) - 1) / 2
    x, y, z = np.moveaxis(SPACING_MM * index @ turned, -1, 0)
    x = x - bend_mm * np.sin(y / 45) + 2.0  # the fissure turns to one side in front, to the other behind
    x = np.where(x > 0, x / larger, x)
    sided = np.zeros(SHAPE, np.uint8)
    sided[((x / 60) ** 2 + (y / 78) ** 2 + (z / 60) ** 2 < 1) & ((np.abs(x) > 1.5) | (np.abs(z) < 8))] = 1
    for number, (side, front, up, radius) in enumerate([(22, 5, 0, 11), (12, -12, 4, 9)], start=2):
        ball = (np.abs(x) - side) ** 2 + (y - front) ** 2 + (z - up) ** 2 < radius**2
        sided[ball & ((x > 0) if without == "left" else True)] = number
    return sided, x > 0


@pytest.mark.parametrize(
    ("turned", "change"),
    [
        (np.eye(3), {}),
        (np.eye(3), {"bend_mm": 6.0}),
        (rotation(1, 15) @ rotation(2, -15), {}),
        (rotation(0, 20) @ rotation(1, -20) @ rotation(2, 20), {"bend_mm": 4.0}),
        (rotation(2, 10), {"larger": 1.15}),
        (rotation(1, 10), {"without": "left"}),
    ],
    ids=["straight", "bent", "tilted", "tilted and bent", "one half larger", "nuclei on one side alone"],
)
def test_few_voxels_are_on_the_wrong_side(turned: NDArray[np.float64], change: dict[str, object]) -> None:
    sided, right = brain(turned, **change)  # type: ignore[arg-type]
    surface = midsurface(sided, SPACING_MM)
    assert surface.shape == SHAPE[1:]
    assert surface.dtype == np.float32
    found = np.arange(SHAPE[0])[:, None, None] > surface
    assert (found != right)[sided > 0].mean() < 0.01
    assert not (found != right)[sided > 1].any()


@pytest.mark.parametrize("fill", [0, 1])
def test_without_anything_to_see_it_is_the_middle(fill: int) -> None:
    surface = midsurface(np.full((32, 16, 16), fill, np.uint8), 1.5)
    assert np.isfinite(surface).all()
    assert np.abs(surface - 15.5).max() < 1


def test_one_voxel() -> None:
    sided = np.zeros((32, 16, 16), np.uint8)
    sided[3, 4, 5] = 7
    assert np.isfinite(midsurface(sided, 1.5)).all()
