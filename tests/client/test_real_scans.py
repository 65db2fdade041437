"""A real whole head, where it is given: MIXPRIV_DATA names a folder with Colin27, ``ch2.nii.gz`` and ``ch2bet.nii.gz``.

Both are in Debian's package mricron-data.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.bundle import DEFAULT_BUNDLE, load_bundle, shipped_bundles
from mixpriv.client.pipeline import Pipeline, open_pipeline
from mixpriv.client.segment import segment
from mixpriv.client.segmentation import Segmentation
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.imaging.resample import to_grid
from mixpriv.imaging.volume import Volume, load_volume
from mixpriv.key import load_or_create_key
from mixpriv.protection.modes import Mixup, Plain
from tests.support.pipelines import using

DATA = Path(os.environ.get("MIXPRIV_DATA", "."))

pytestmark = [
    pytest.mark.skipif("MIXPRIV_DATA" not in os.environ, reason="MIXPRIV_DATA names no folder with real scans"),
    pytest.mark.skipif(DEFAULT_BUNDLE not in shipped_bundles(), reason=f"the bundle {DEFAULT_BUNDLE} is not here"),
]


@pytest.fixture
def trained(home: Path) -> Pipeline:
    bundle = load_bundle()
    return open_pipeline(bundle, Mixup(), load_or_create_key(), InProcessSegmenter(bundle.segmenter_path))


@pytest.fixture(scope="module")
def head() -> Volume:
    return load_volume(DATA / "ch2.nii.gz")


def turned(degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine


def flipped(head: Volume) -> Volume:
    change = np.diag([-1.0, 1, 1, 1])
    change[0, 3] = head.voxels.shape[0] - 1
    return replace(head, voxels=np.asfortranarray(head.voxels[::-1]), affine=head.affine @ change)


def turned_in_the_header(head: Volume) -> Volume:
    return replace(head, affine=turned(20) @ head.affine)


def turned_by_resampling(head: Volume) -> Volume:
    centre = (np.array(head.voxels.shape) - 1) / 2
    change = turned(20)
    change[:3, 3] = centre - change[:3, :3] @ centre
    voxels = ndimage.affine_transform(head.voxels, change, order=1)
    return replace(head, voxels=np.asfortranarray(voxels), affine=head.affine @ change)


def thick_slices(head: Volume) -> Volume:
    slices = head.voxels.shape[2] // 3
    voxels = head.voxels[:, :, : 3 * slices].reshape(*head.voxels.shape[:2], slices, 3).mean(axis=3)
    affine = head.affine @ np.diag([1.0, 1, 3, 1])
    affine[:3, 3] += head.affine[:3, 2]
    return replace(head, voxels=np.asfortranarray(voxels), affine=affine)


def on_head(result: Segmentation, scan: Volume, world: NDArray[np.float64], head: Volume) -> NDArray[np.uint8]:
    """Labels brought to the head's own grid; ``world`` takes the head's world to the scan's."""
    index = np.linalg.solve(scan.affine, world @ head.affine)
    return np.asarray(ndimage.affine_transform(result.labels, index, output_shape=head.voxels.shape, order=0))


def mean_dice(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    inside = (one > 0) & (other > 0)
    scores = []
    for value in range(1, 5):
        a, b = (one == value) & inside, (other == value) & inside
        scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return float(np.mean(scores))


@pytest.mark.parametrize(
    ("change", "world", "bar"),
    [
        (lambda head: load_volume(DATA / "ch2bet.nii.gz"), np.eye(4), 0.9),
        (flipped, np.eye(4), 0.9),
        (turned_in_the_header, turned(20), 0.8),
        (turned_by_resampling, np.eye(4), 0.8),
        (thick_slices, np.eye(4), 0.8),
    ],
    ids=["strip", "flip", "turned in the header", "turned", "thick slices"],
)
def test_nearly_the_same_segmentation(
    change: Callable[[Volume], Volume], world: NDArray[np.float64], bar: float, head: Volume, trained: Pipeline
) -> None:
    expected = segment(head, using(trained, Plain())).labels
    scan = change(head)
    assert mean_dice(on_head(segment(scan, using(trained, Plain())), scan, world, head), expected) >= bar


def test_identical_voxels_after_flipping(head: Volume, trained: Pipeline) -> None:
    expected = segment(head, using(trained, Plain())).labels
    labels = segment(flipped(head), using(trained, Plain())).labels[::-1]
    assert (labels == expected).mean() > 0.9999


def test_no_face_and_no_skull_in_what_is_sent(head: Volume, trained: Pipeline) -> None:
    """What lies far from the stripped brain is not sent."""
    strip = load_volume(DATA / "ch2bet.nii.gz")
    result = segment(head, using(trained, Plain()))
    near = to_grid(replace(strip, voxels=np.asfortranarray(strip.voxels > 0, np.float32)), result.conformed.grid) > 0
    far = ndimage.distance_transform_edt(~near, sampling=result.conformed.grid.spacing_mm) > 12
    sent = result.exchanges[0].sent[0] > 0
    assert (sent & far).sum() < 0.005 * sent.sum()


def test_what_is_sent_does_not_depend_on_the_threads(head: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, sent = load_bundle(), []
    for threads in ("1", "2"):
        monkeypatch.setenv("MIXPRIV_THREADS", threads)
        pipeline = open_pipeline(bundle, Mixup(), load_or_create_key(), InProcessSegmenter(bundle.segmenter_path))
        sent.append(segment(head, using(pipeline, Mixup())).exchanges[0].sent.tobytes())
    assert sent[0] == sent[1]
