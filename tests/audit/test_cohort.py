"""Provenance-up people and simulated visits, from scans as the client conforms them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv.audit.cohort import ENOUGH_PEOPLE, MIRRORED, mirror, read_held_out, rescan, simulate
from mixpriv.bundle import load_bundle
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from tests.audit.conftest import Stage


def test_changed_copies_show_their_own_image_where_the_scan_lay_on_a_device(stage: Stage) -> None:
    visit = stage.cohort.gallery[0]
    target = visit.conformed.with_placed([visit.conformed.image], visit.conformed.mask)
    placed = replace(visit, conformed=target)
    assert placed.image.any()
    np.testing.assert_array_equal(mirror(placed).image, placed.image[::-1])
    assert not np.array_equal(rescan(placed, 0).image, placed.image)
    np.testing.assert_array_equal(rescan(placed, 0).image, rescan(visit, 0).image)


def test_attackers_are_nobody_s_visits(stage: Stage) -> None:
    visits = stage.cohort.gallery[:6]
    people = simulate(visits, attackers=2, rescans=2)
    assert len(people.known) == 4
    assert not {v.subject for v in people.known} & {v.subject for v in (*people.queries, *people.gallery)}


def write_crop(folder: Path, number: int) -> None:
    """A bright ball in noise, somewhere near the middle, labelled."""
    random = np.random.default_rng(number)
    place = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in (36, 48, 32)), indexing="ij"), -1)
    ball = np.linalg.norm(place - random.uniform(-3, 3, 3), axis=-1) < 7
    image = 100 + 80 * ball + 10 * random.standard_normal(ball.shape)
    for name, voxels in (("imagesTr", image.astype(np.float32)), ("labelsTr", ball.astype(np.uint8))):
        (folder / name).mkdir(exist_ok=True, parents=True)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(folder / name / f"part_{number:03d}.nii.gz")


def test_of_crops_those_are_attacked_that_the_training_held_out(tmp_path: Path) -> None:
    for number in range(1, 12):
        write_crop(tmp_path, number)
    bundle = load_bundle("hippocampus")
    visits = read_held_out(tmp_path, load_preprocessor(bundle), bundle)
    assert [visit.subject for visit in visits] == ["part_005", "part_010"]
    assert all(visit.labels is not None and visit.labels.any() for visit in visits)
    assert visits[0].image.shape == bundle.grid_shape
    (tmp_path / "labelsTr" / "part_005.nii.gz").unlink()
    assert read_held_out(tmp_path, load_preprocessor(bundle), bundle)[0].labels is None
    with pytest.raises(InputError, match="bundle brain-t1 is for heads"):
        read_held_out(tmp_path, load_preprocessor(load_bundle()), load_bundle())
    for untold in ({}, {"config": None}, {"config": {"region": None}}):
        with pytest.raises(
            InputError, match="bundle hippocampus: expected its config to tell which crops were held out"
        ):
            read_held_out(tmp_path, load_preprocessor(bundle), replace(bundle, extra=untold))
    with pytest.raises(InputError, match="expected crops in imagesTr, got none that were held out"):
        read_held_out(tmp_path / "imagesTr", load_preprocessor(bundle), bundle)


def test_nobody_is_made_up_where_there_are_enough_people(stage: Stage) -> None:
    few, visit = stage.cohort.gallery[:6], stage.cohort.gallery[0]
    many = [replace(visit, subject=f"sub-{n}", content=bytes([n] * 32)) for n in range(ENOUGH_PEOPLE)]
    assert any(v.subject.endswith(MIRRORED) for v in simulate(few, attackers=2).gallery)
    people = simulate(many, attackers=30, rescans=1)
    assert {v.subject for v in people.gallery} == {v.subject for v in people.queries}
    assert len(people.gallery) == 10
    assert len(people.known) == 30
