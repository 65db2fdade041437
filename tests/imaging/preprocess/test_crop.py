"""Bundles for crops: placed by whole voxels, whatever way the file's axes run; whole heads refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.client.pipeline import open_pipeline
from mixpriv.client.segment import segment
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.crop import conform_crop
from mixpriv.imaging.volume import Volume
from mixpriv.key import load_or_create_key
from mixpriv.protection.modes import Mixup, named
from tests.support.pipelines import using
from tests.support.toybundle import write_toy_crop_bundle


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy_crop_bundle(tmp_path_factory.mktemp("crop"))


def crop(shape: tuple[int, int, int] = (21, 33, 24), spacing_mm: float = 1.0, seed: int = 0) -> Volume:
    voxels = np.random.default_rng(seed).uniform(0, 900, shape).astype(np.float32)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (7.5, -20.0, 3.25)
    return Volume(np.asfortranarray(voxels), affine, None, "crop.nii.gz")


def one_odd_voxel() -> NDArray[np.float32]:
    voxels = np.ones((21, 33, 24), np.float32, order="F")
    voxels[0, 0, 0] = 2
    return voxels


def oblique(scan: Volume, degrees: float) -> Volume:
    """The scan turned about the S axis of the world."""
    turn, angle = np.eye(4), np.deg2rad(degrees)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return replace(scan, affine=turn @ scan.affine)


class TestConform:
    def test_voxels_are_kept_as_they_are(self, crops: Bundle) -> None:
        scan = crop()
        target = conform_crop(scan, crops)
        assert target.image.shape == target.mask.shape == crops.grid_shape
        np.testing.assert_array_equal(target.mask, _padded(np.ones_like(scan.voxels)))
        np.testing.assert_allclose(target.image * target.mask, _padded(scan.voxels), rtol=1e-4, atol=1e-2)
        assert target.mask_ml == pytest.approx(21 * 33 * 24 / 1000)

    @settings(max_examples=20, deadline=None)
    @given(
        order=st.sampled_from(list(permutations(range(3)))),
        flips=st.sampled_from(list(product((False, True), repeat=3))),
        grid=st.sampled_from([((21, 33, 24), 1.0), ((30, 44, 36), 0.8), ((40, 61, 45), 0.6), ((18, 26, 20), 1.3)]),
        angle=st.sampled_from([0.0, 20.0]),
        seed=st.integers(0, 99),
    )
    def test_any_order_of_the_axes_gives_the_same_bytes(
        self,
        crops: Bundle,
        order: tuple[int, ...],
        flips: tuple[bool, ...],
        grid: tuple[tuple[int, int, int], float],
        angle: float,
        seed: int,
    ) -> None:
        scan = oblique(crop(*grid, seed=seed), angle)
        affine, voxels = scan.affine.copy(), scan.voxels
        for axis, flip in enumerate(flips):
            if flip:
                affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
                affine[:3, axis] *= -1
                voxels = np.flip(voxels, axis)
        affine[:3, :3] = affine[:3, list(order)]
        turned = replace(scan, voxels=np.asfortranarray(voxels.transpose(order)), affine=affine)
        one, other = conform_crop(scan, crops), conform_crop(turned, crops)
        assert one.image.tobytes() == other.image.tobytes()
        assert one.mask.tobytes() == other.mask.tobytes()
        np.testing.assert_allclose(one.grid.affine, other.grid.affine, atol=1e-9)

    def test_an_oblique_crop_keeps_its_axes(self, crops: Bundle) -> None:
        one, other = conform_crop(crop(), crops), conform_crop(oblique(crop(), 25), crops)
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_allclose(one.image, other.image, rtol=1e-3, atol=0.5)

    @pytest.mark.parametrize(
        ("scan", "message"),
        [
            (
                crop((40, 60, 40)),
                r"toy, 16x24x16 to 32x48x32 mm, got 40x60x40 mm; a whole head is for",
            ),
            (crop((33, 30, 20)), r"got 33x30x20 mm$"),
            (crop((20, 18, 20)), r"got 20x18x20 mm$"),
            (crop((20, 30, 20), 2.0), r"got 40x60x40 mm"),
            (replace(crop(), voxels=one_odd_voxel()), "expected a crop with contrast"),
        ],
    )
    def test_what_is_no_such_crop_is_refused(self, crops: Bundle, scan: Volume, message: str) -> None:
        with pytest.raises(InputError, match=rf"^crop\.nii\.gz: expected a crop .*{message}|^crop.nii.gz: {message}"):
            conform_crop(scan, crops)


class TestSegment:
    @pytest.mark.parametrize("mode", ["none", "mixup"])
    def test_labels_come_back_in_the_crops_own_grid(self, crops: Bundle, home: Path, mode: str) -> None:
        scan = crop()
        # white left, grey right, in the way the toy network knows them
        bright = np.where(np.arange(21)[:, None, None] < 10, 0.9, 0.6) * np.ones(scan.voxels.shape)
        bright[0], bright[1] = 0.0, 1.0
        scan = replace(scan, voxels=np.asfortranarray(bright, np.float32))
        pipeline = open_pipeline(crops, Mixup(), load_or_create_key(), InProcessSegmenter(crops.segmenter_path))
        result = segment(scan, using(pipeline, named(mode, weights=0.7 if mode == "mixup" else None)))
        assert result.labels.shape == scan.voxels.shape
        assert result.brain_ml is None
        if mode == "none":
            assert (result.labels[3:9] == 1).all()
            assert (result.labels[11:] == 2).all()
        else:
            assert (result.labels > 0).mean() > 0.3


class TestBundle:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"alignment": {"std_mm": [1, 1, 1], "centre_voxel": [1, 1, 1]}}, "expected either alignment or crop"),
            ({"extractor_spacing_mm": 3.0}, "expected either alignment or crop"),
            ({"crop": None}, "expected either alignment or crop"),
            ({"crop": {"region": "toy", "min_mm": [1, 1, 1], "max_mm": [33, 48, 32]}}, "to fit into the grid"),
            ({"crop": {"region": "toy", "min_mm": [1, 1], "max_mm": [32, 48, 32]}}, "missing or of the wrong kind"),
        ],
    )
    def test_a_contradiction_is_named(self, tmp_path: Path, change: dict, message: str) -> None:
        write_toy_crop_bundle(tmp_path)
        path = tmp_path / "bundle.json"
        fields = json.loads(path.read_text()) | change
        path.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))
        with pytest.raises(InputError, match=message):
            load_bundle(tmp_path)


def _padded(voxels: np.ndarray) -> np.ndarray:
    before = [(n - s) // 2 for s, n in zip(voxels.shape, (32, 48, 32), strict=True)]
    after = [n - s - b for s, n, b in zip(voxels.shape, (32, 48, 32), before, strict=True)]
    return np.pad(voxels, list(zip(before, after, strict=True)))
