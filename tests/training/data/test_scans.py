"""Real heads as training targets: folds over people, drawing, references."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mixpriv.errors import InputError
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import draw_reference
from mixpriv.training.config import load_config
from mixpriv.training.data.labels import TISSUES, Head
from mixpriv.training.data.scans import LabelledScan, LabelledScans
from mixpriv.training.examples import Examples, ReferencePool
from mixpriv.training.specs import Folds
from tests.training.test_training import CONFIG

FOLDS = Folds(5, "brain-t1", (5, 2, 1))
INTENSITY = np.array([0, 900, 600, 750, 200, 150], np.float32)


@pytest.fixture(scope="module")
def scans(head: Head) -> LabelledScans:
    """The phantom head in the toy grid, three times, each painted with noise of its own."""
    from mixpriv.training.data.labels import TISSUE_ANATOMY

    classes = head.classes[16:80, 23:87, 18:82]
    class_of = TISSUE_ANATOMY.class_of
    labels = np.where(classes < len(class_of), class_of[classes % len(class_of)], 0).astype(np.uint8)
    rng = np.random.default_rng(0)
    made = [
        LabelledScan(
            f"sub-{k}",
            (INTENSITY[labels] + rng.normal(0, 20, labels.shape)).astype(np.float32)[None],
            labels > 0,
            labels,
        )
        for k in range(3)
    ]
    return LabelledScans(made, CONFIG.changed(folds=FOLDS), FOLDS)


class TestFolds:
    def test_everyone_is_held_out_once(self) -> None:
        everyone = [f"sub-{k:02d}" for k in range(19)]
        twice = [*everyone, *everyone[:2]]
        out = [subject for k in range(5) for subject in replace(FOLDS, held_out=k).subjects(twice)]
        assert sorted(out) == everyone

    def test_a_fold_that_is_none(self) -> None:
        with pytest.raises(InputError, match="fold: expected 0 to 4, got 5"):
            load_config("oasis-t1", 5)

    def test_the_config_says_which(self) -> None:
        folds = load_config("oasis-t1", 3).segmenter.data.folds
        assert folds is not None
        assert folds.held_out == 3


class TestDrawing:
    def test_image_and_labels_move_together(self, scans: LabelledScans) -> None:
        full = (slice(0, 64),) * 3
        (image,), labels = scans.draw(full, np.random.default_rng(0))
        assert image.shape == labels.shape == CONFIG.task.grid_shape
        assert float(image[labels == 1].mean()) > float(image[labels == 2].mean()) > float(image[labels == 4].mean())
        assert float(image.min()) >= 0
        again = scans.draw(full, np.random.default_rng(0))
        assert torch.equal(image, again[0][0])
        assert torch.equal(labels, again[1])

    def test_examples_are_cut_to_the_window(self, scans: LabelledScans) -> None:
        source = Examples(scans.config, scans, ReferencePool(scans.reference_model(), 0, 2))
        assert source.at(3).image.shape == (1, 1, *CONFIG.data.crop)


class TestReferenceModel:
    def test_references_have_the_labels_and_their_brightness(self, scans: LabelledScans) -> None:
        model = scans.reference_model()
        reference = draw_reference(model, Keystream(bytes(32)))
        assert set(np.unique(reference.labels)) <= set(range(len(TISSUES)))
        assert reference.mask.mean() == pytest.approx(float(scans.scans[0].mask.mean()), rel=0.25)
        middle = model.intensity_range.mean(1)
        assert middle[1] > middle[2] > middle[4] > middle[0]


def test_a_bids_folder_is_conformed(tmp_path: Path) -> None:
    folder = Path(os.environ.get("MIXPRIV_DATA", ""), "oasis_t1")
    if not folder.is_dir():
        pytest.skip("MIXPRIV_DATA names no folder with oasis_t1")
    people = sorted(folder.glob("sub-*"))[:2]
    for person in people:
        (tmp_path / person.name).symlink_to(person)
    config = load_config("oasis-t1").segmenter
    assert config.data.folds is not None
    scans = LabelledScans.read(tmp_path, config, config.data.folds)
    assert {scan.subject for scan in scans.scans} == {people[1].name}
    scan = scans.scans[0]
    assert set(np.unique(scan.labels)) == set(range(6))
    assert (scan.labels[scan.mask] > 0).mean() > 0.85
