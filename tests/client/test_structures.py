"""A bundle of structures: left and right are told apart on the client, or merged to tissues."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mixpriv
from mixpriv.bundle import Bundle
from mixpriv.client import restore
from mixpriv.client.segmentation import Segmentation
from mixpriv.client.table import encode_table
from mixpriv.errors import InputError
from tests.support.phantom import brain_scan
from tests.support.toybundle import write_structures_bundle


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_structures_bundle(tmp_path_factory.mktemp("structures"))


def segmented(bundle: Bundle, *, tissues: bool = False, flipped: bool = False) -> Segmentation:
    scan, _ = brain_scan()
    voxels, affine = scan.voxels, scan.affine
    if flipped:
        voxels, affine = voxels[::-1], affine @ np.diag([-1.0, 1, 1, 1])
        affine[:3, 3] += scan.affine[:3, 0] * (len(voxels) - 1)
    return mixpriv.segment((voxels, affine), bundle, tissues=tissues)


def test_left_and_right_have_their_numbers(structures: Bundle) -> None:
    seg = segmented(structures)
    assert set(np.unique(seg.labels)) == {0, 2, 3, 4, 11, 24, 41, 42, 43, 50}
    where = np.argwhere(np.isin(seg.labels, (41, 42, 43, 50)))[:, 0].mean()
    assert where > np.argwhere(np.isin(seg.labels, (2, 3, 4, 11)))[:, 0].mean()  # R is where the axis leads
    volumes = seg.volumes_ml
    assert volumes["left white matter"] == pytest.approx(volumes["right white matter"], rel=0.15)
    assert "white matter" not in volumes


def test_the_sides_are_those_of_the_person_not_of_the_file(structures: Bundle) -> None:
    agree = segmented(structures).labels == segmented(structures, flipped=True).labels[::-1]
    assert agree.mean() > 0.999


def test_planes_at_a_time_are_the_whole(structures: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = segmented(structures).labels
    monkeypatch.setattr(restore, "_PLANES", 7)
    np.testing.assert_array_equal(segmented(structures).labels, whole)


def test_the_classes_are_those_of_a_bundle_without_sides(structures: Bundle) -> None:
    plain = segmented(replace(structures, labels=None)).labels
    seg = segmented(structures)
    np.testing.assert_array_equal(seg.labelling.classes_of(seg.labels), plain)
    assert [row.voxels for row in seg.both_sides] == [int((plain == value).sum()) for value in range(1, 6)]


def test_table_and_intracranial_volume(structures: Bundle, tmp_path: Path) -> None:
    seg = segmented(structures)
    rows = [line.split("\t") for line in encode_table(seg.volumes).decode().splitlines()]
    assert rows[0] == ["index", "name", "abbreviation", "color", "voxels", "volume_ml", "flags"]
    assert [row[0] for row in rows[1:]] == ["2", "3", "4", "11", "24", "41", "42", "43", "50"]
    assert rows[1][1:3] == ["left white matter", "L-WM"]
    assert seg.intracranial_ml == pytest.approx(sum(float(row[5]) for row in rows[1:]), abs=0.01)
    assert seg.intracranial_ml == pytest.approx(0.027 * np.count_nonzero(seg.labels), abs=0.01)
    seg.save(tmp_path / "labels.nii.gz")
    saved = np.asarray(nib.loadsave.load(tmp_path / "labels.nii.gz").dataobj)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(saved, seg.labels)


def test_tissues_are_added_up_before_the_strongest_is_taken(structures: Bundle) -> None:
    seg = segmented(structures, tissues=True)
    assert set(np.unique(seg.labels)) == {0, 1, 2}
    assert list(seg.volumes_ml) == ["tissue", "fluid"]
    assert seg.probabilities.shape[0] == 3
    apart = segmented(structures).probabilities
    np.testing.assert_allclose(seg.probabilities[1], apart[1:4].sum(axis=0), atol=1e-6)


def test_a_bundle_without_tissues_is_refused() -> None:
    with pytest.raises(InputError, match=r"^bundle hippocampus: expected one whose classes merge to tissues"):
        mixpriv.Client("hippocampus", tissues=True)
