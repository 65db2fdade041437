from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.imaging.resample import Grid, between_grids, brain_grid, field_of_view, to_grid, to_scan
from mixpriv.imaging.volume import Image
from tests.support.phantom import brain_scan
from tests.support.toybundle import CLASSES

ORIENTATIONS = ["".join(flip[axis] for axis in order)
                for order in permutations(range(3)) for flip in product("RL", "AP", "SI")]  # fmt: skip


def volume(voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> Image:
    return Image(np.asfortranarray(voxels, dtype=np.float32), affine)


def reoriented(scan: Image, codes: str) -> Image:
    """The same scan with its array axes in another order and direction."""
    start = nib.orientations.io_orientation(scan.affine)
    change = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes))
    voxels = nib.orientations.apply_orientation(scan.voxels, change)
    return volume(voxels, scan.affine @ nib.orientations.inv_ornt_aff(change, scan.voxels.shape))


def world_of(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


@st.composite
def geometries(draw: st.DrawFn) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine: any orientation, oblique up to 0.5 rad, anisotropic up to 5 mm."""
    angles = [draw(st.floats(-0.5, 0.5)) for _ in range(3)]
    spacing = [draw(st.floats(0.7, 5.0)) for _ in range(3)]
    order = draw(st.sampled_from(list(permutations(range(3)))))
    signs = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(*angles) @ np.eye(3)[list(order)] @ np.diag(np.multiply(spacing, signs))
    affine[:3, 3] = [draw(st.floats(-100, 100)) for _ in range(3)]
    extents = [draw(st.floats(40, 90)) for _ in range(3)]
    shape = tuple(max(8, round(extent / s)) for extent, s in zip(extents, spacing, strict=True))
    return (shape[0], shape[1], shape[2]), affine


class TestFieldOfView:
    @given(geometries(), st.sampled_from([1.5, 2.0, 3.0]), st.sampled_from([8, 16]))
    def test_holds_every_voxel_and_is_a_multiple(
        self, geometry: tuple[tuple[int, int, int], NDArray[np.float64]], spacing_mm: float, multiple: int
    ) -> None:
        shape, affine = geometry
        grid = field_of_view(volume(np.zeros(shape), affine), spacing_mm, multiple)
        assert all(n % multiple == 0 and n > 0 for n in grid.shape)
        index = np.linalg.solve(grid.affine[:3, :3], (world_of(shape, affine) - grid.affine[:3, 3]).reshape(-1, 3).T)
        assert index.min() >= -0.5
        assert (index.max(axis=1) <= np.array(grid.shape) - 0.5).all()
        np.testing.assert_allclose(grid.spacing_mm, spacing_mm)

    def test_no_plane_more_than_needed(self) -> None:
        scan = volume(np.zeros((160, 160, 160)), nib.affines.from_matvec(np.diag([1.0000001] * 3), [3, 4, 5]))
        assert field_of_view(scan, 1.0, 16).shape == (160, 160, 160)


class TestForward:
    @settings(max_examples=30)
    @given(geometries(), st.floats(0.8, 4.0))
    def test_a_linear_image_stays_linear(
        self, geometry: tuple[tuple[int, int, int], NDArray[np.float64]], spacing_mm: float
    ) -> None:
        """Exact wherever the scan reaches, whatever is averaged or interpolated on the way."""
        shape, affine = geometry
        slope = np.array([1.0, -2.0, 0.5])
        scan = volume(world_of(shape, affine) @ slope + 7, affine)
        grid = field_of_view(scan, spacing_mm, 8)
        world = world_of(grid.shape, grid.affine)
        index = (world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        reach = np.maximum(1, 1.5 * spacing_mm / scan.spacing_mm)
        inside = ((index > reach) & (index < np.array(shape) - 1 - reach)).all(axis=-1)
        np.testing.assert_allclose(to_grid(scan, grid)[inside], (world @ slope + 7)[inside], atol=2e-3)

    def test_zero_outside_the_scan(self) -> None:
        scan = volume(np.ones((10, 10, 10)), np.eye(4))
        image = to_grid(scan, Grid((32, 32, 32), nib.affines.from_matvec(np.eye(3), [-10, -10, -10])))
        assert image.sum() == 1000

    def test_a_fine_scan_is_averaged_not_picked(self) -> None:
        noise = np.random.default_rng(0).standard_normal((120, 120, 120))
        scan = volume(noise, np.diag([0.5, 0.5, 0.5, 1]))
        image = to_grid(scan, Grid((16, 16, 16), nib.affines.from_matvec(np.eye(3) * 3, [5, 5, 5])))
        assert image.std() < 0.15

    def test_the_callers_array_is_untouched(self) -> None:
        scan = volume(np.random.default_rng(0).random((20, 20, 20)), np.eye(4))
        before = scan.voxels.copy()
        to_grid(scan, field_of_view(scan, 3.0, 16))
        np.testing.assert_array_equal(scan.voxels, before)


class TestInverse:
    @settings(max_examples=30)
    @given(geometries())
    def test_a_plane_between_two_classes_lies_where_it_was(
        self, geometry: tuple[tuple[int, int, int], NDArray[np.float64]]
    ) -> None:
        shape, affine = geometry
        scan = volume(np.zeros(shape), affine)
        grid = field_of_view(scan, 2.0, 8)
        centre = world_of(shape, affine).reshape(-1, 3).mean(axis=0)

        def side(world: NDArray[np.float64]) -> NDArray[np.float64]:
            return (world - centre) @ np.array([0.6, -0.64, 0.48])

        distance = side(world_of(grid.shape, grid.affine)).astype(np.float32)
        labels = to_scan(np.ascontiguousarray(np.stack([500 - distance, 500 + distance])), grid, scan)
        world = world_of(shape, affine)
        expected = side(world)
        index = (world - grid.affine[:3, 3]) / 2.0
        # beyond the outermost samples the grid's edge continues
        clear = (np.abs(expected) > 0.01) & ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=-1)
        np.testing.assert_array_equal(labels[clear], (expected > 0)[clear])
        assert labels.flags.f_contiguous

    def test_background_outside_the_grid(self) -> None:
        scan = volume(np.zeros((30, 30, 30)), np.eye(4))
        grid = Grid((8, 8, 8), nib.affines.from_matvec(np.eye(3), [10, 10, 10]))
        probabilities = np.stack([np.zeros(grid.shape, np.float32), np.ones(grid.shape, np.float32)])
        labels = to_scan(probabilities, grid, scan)
        assert labels[10:18, 10:18, 10:18].all()
        assert labels.sum() == 8**3


class TestRoundTrip:
    @pytest.mark.parametrize("codes", ORIENTATIONS)
    def test_all_48_orientations_give_the_same(self, codes: str) -> None:
        scan, truth = brain_scan((50, 60, 52), noise=0)
        other = reoriented(scan, codes)
        grid = field_of_view(scan, 3.0, 16)
        np.testing.assert_allclose(to_grid(other, grid), to_grid(scan, grid), atol=0.1)
        shares = np.stack(
            [to_grid(replace(scan, voxels=onehot(truth == value)), grid) for value in range(len(CLASSES))]
        )
        back = reoriented(replace(other, voxels=np.asfortranarray(to_scan(shares, grid, other), np.float32)), "RAS")
        assert (back.voxels == truth).mean() > 0.9995

    @pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (3, 3, 3), (1.2, 1.2, 5), (5, 2, 2)])
    @pytest.mark.parametrize("angles", [(0, 0, 0), (0.3, -0.2, 0.4)])
    def test_labels_come_back(self, spacing: tuple[float, ...], angles: tuple[float, ...]) -> None:
        affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(*angles) @ np.diag(spacing), [-80, -100, -70])
        shape = tuple(int(np.ceil(180 / s)) for s in spacing)
        scan, truth = brain_scan((shape[0], shape[1], shape[2]), affine, noise=0)
        grid = field_of_view(scan, 1.5, 16)
        shares = np.stack(
            [to_grid(replace(scan, voxels=onehot(truth == value)), grid) for value in range(len(CLASSES))]
        )
        labels = to_scan(shares, grid, scan)
        for value in range(1, len(CLASSES)):
            both = 2 * ((labels == value) & (truth == value)).sum() / ((labels == value).sum() + (truth == value).sum())
            assert both > 0.95, f"class {value}"


def onehot(where: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.asfortranarray(where, dtype=np.float32)


class TestGrids:
    def test_between_grids(self) -> None:
        source = Grid((20, 20, 20), np.diag([2.0, 2, 2, 1]))
        target = Grid((8, 8, 8), nib.affines.from_matvec(np.eye(3), [10, 10, 10]))
        image = world_of(source.shape, source.affine)[..., 0].astype(np.float32)
        np.testing.assert_allclose(between_grids(image, source, target), world_of((8, 8, 8), target.affine)[..., 0])

    def test_a_brain_is_centred_and_sized(self, bundle: Bundle) -> None:
        mask = np.zeros((40, 40, 40), bool)
        mask[10:30, 12:28, 5:25] = True
        mask_grid = Grid((40, 40, 40), nib.affines.from_matvec(np.diag([4.0, 5, 4]), [3, 1, 4]))
        grid = brain_grid(mask, mask_grid, bundle)
        inside = between_grids(mask.astype(np.float32), mask_grid, grid) > 0.5
        position = np.argwhere(inside)
        np.testing.assert_allclose(position.mean(axis=0), bundle.alignment.centre_voxel, atol=0.5)
        extent_mm = position.std(axis=0) * bundle.spacing_mm
        expected = np.clip(extent_mm * grid.spacing_mm / bundle.spacing_mm / bundle.alignment.std_mm, 0.65, 1.5)
        np.testing.assert_allclose(grid.spacing_mm / bundle.spacing_mm, expected, rtol=0.05)
