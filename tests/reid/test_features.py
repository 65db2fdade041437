"""The grid on which images are compared."""

from __future__ import annotations

import pytest

from mixpriv.reid.features import LEAST_VOXELS, working_factor


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "factor"),
    [((96, 128, 112), 1.5, 3), ((192, 256, 224), 0.75, 6), ((48, 64, 48), 1.0, 2), ((24, 24, 24), 1.0, 1)],
)
def test_brains_are_compared_at_some_millimetres_and_crops_as_finely_as_they_have_voxels(
    shape: tuple[int, int, int], spacing_mm: float, factor: int
) -> None:
    assert working_factor(shape, spacing_mm) == factor


@pytest.mark.parametrize("voxels", range(20, 300, 7))
@pytest.mark.parametrize("spacing_mm", [0.5, 0.8, 1.0, 1.5, 2.0, 3.0])
def test_the_working_grid_is_not_made_coarser_again(voxels: int, spacing_mm: float) -> None:
    factor = working_factor((voxels,) * 3, spacing_mm)
    coarse = voxels // factor
    assert coarse >= min(voxels, LEAST_VOXELS)
    assert working_factor((coarse,) * 3, factor * spacing_mm) == 1
