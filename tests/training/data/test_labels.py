"""What a label map's numbers become: tissues or structures, with what both share."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv.bundle import Alignment
from mixpriv.errors import InputError
from mixpriv.training.data.atlas import fit_reference_model, grid_to_head
from mixpriv.training.data.labels import (
    FIRST_OUTER,
    STRUCTURE_ANATOMY,
    STRUCTURES,
    TISSUE_ANATOMY,
    TISSUES,
    Anatomy,
    Head,
    anatomy_of,
    claustrum,
    load_head,
)
from mixpriv.training.data.synth import class_means

ALIGNMENT = Alignment((18.0, 20.0, 18.0), (31.5, 31.5, 31.5))
SHAPE = (64, 64, 64)

TISSUE_OF_STRUCTURE = {
    "cerebral white matter": "white matter", "cerebellar white matter": "white matter", "brain stem": "white matter",
    "ventral DC": "white matter", "cerebral cortex": "grey matter", "cerebellar cortex": "grey matter",
    "hippocampus": "grey matter", "amygdala": "grey matter", "caudate": "nuclei", "putamen": "nuclei",
    "pallidum": "nuclei", "thalamus": "nuclei", "accumbens": "nuclei", "lateral ventricle": "internal CSF",
    "third ventricle": "internal CSF", "fourth ventricle": "internal CSF", "extraventricular CSF": "external CSF",
}  # fmt: skip


def label_map(folder: Path, values: np.ndarray) -> Path:
    path = folder / "head_dseg.nii.gz"
    nib.save(nib.Nifti1Image(values.astype(np.int16), np.eye(4)), path)
    return path


def numbers(anatomy: Anatomy) -> dict[int, str]:
    """Class name of each FreeSurfer number."""
    return {number: name for name, labels in anatomy.parts.values() for number in labels}


@pytest.mark.parametrize("anatomy", [TISSUE_ANATOMY, STRUCTURE_ANATOMY])
class TestAnatomy:
    def test_every_class_has_a_part(self, anatomy: Anatomy) -> None:
        assert set(anatomy.class_of) == set(range(len(anatomy.classes)))
        assert len(anatomy.class_of) == len(anatomy.intensity_classes) < FIRST_OUTER

    def test_no_number_is_in_two_parts(self, anatomy: Anatomy) -> None:
        given = [number for _, labels in anatomy.parts.values() for number in labels]
        assert len(given) == len(set(given))

    def test_csf_is_last_so_that_all_before_it_is_brain(self, anatomy: Anatomy) -> None:
        assert list(anatomy.parts)[-1] == "csf"

    def test_it_is_found_by_its_classes(self, anatomy: Anatomy) -> None:
        assert anatomy_of(list(anatomy.classes)) is anatomy


def test_structures_are_parts_of_the_tissues() -> None:
    structures, tissues = numbers(STRUCTURE_ANATOMY), numbers(TISSUE_ANATOMY)
    assert {n: TISSUE_OF_STRUCTURE[name] for n, name in structures.items()} == tissues


def test_other_classes_have_no_anatomy() -> None:
    with pytest.raises(InputError, match="expected 6 tissues or 18 structures, got 2"):
        anatomy_of(["background", "lesion"])


class TestLoadHead:
    VALUES = np.array([0, 2, 17, 18, 11, 26, 4, 14, 15, 16, 28, 85, 24, 515])

    def cube(self) -> np.ndarray:
        return np.repeat(self.VALUES, 8 * 12 * 12).reshape(-1, 12, 12)

    def test_structures_by_number(self, tmp_path: Path) -> None:
        head = load_head(label_map(tmp_path, self.cube()), STRUCTURE_ANATOMY)
        kept = [STRUCTURE_ANATOMY.intensity_classes[c] for c in head.classes[4::8, 6, 6] if c < FIRST_OUTER]
        assert kept[:12] == [
            "background", "cerebral_wm", "hippocampus", "amygdala", "caudate", "accumbens", "ventricle",
            "third_ventricle", "fourth_ventricle", "brainstem", "ventral_dc", "ventral_dc",
        ]  # fmt: skip

    def test_the_brain_is_the_same_in_both(self, tmp_path: Path) -> None:
        path = label_map(tmp_path, self.cube())
        np.testing.assert_array_equal(load_head(path).mask, load_head(path, STRUCTURE_ANATOMY).mask)

    def test_an_unknown_number_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"unknown labels \[77\]"):
            load_head(label_map(tmp_path, np.where(self.cube() == 26, 77, self.cube())), STRUCTURE_ANATOMY)


def test_a_sheet_of_grey_lies_between_putamen_and_insula() -> None:
    order = [("putamen", 10), ("cerebral_wm", 5), ("cortex", 5), ("cerebral_wm", 20)]
    line = np.concatenate([np.full(count, STRUCTURE_ANATOMY.number(name)) for name, count in order])
    classes = np.broadcast_to(line[:, None, None], (40, 5, 5)).astype(np.uint8)
    found = claustrum(classes, STRUCTURE_ANATOMY)[:, 2, 2]
    assert np.flatnonzero(found).tolist() == [12]
    assert not claustrum(np.zeros((4, 4, 4), np.uint8), STRUCTURE_ANATOMY).any()


class TestIntensities:
    def test_draws_of_tissues_are_those_of_earlier_trainings(self) -> None:
        means = class_means(np.random.default_rng(0))
        known = [1.0, 1.0334235, 0.9519504, 0.7111543, 0.7376869]
        np.testing.assert_allclose(means[[1, 2, 3, 5, 40]], known, atol=1e-6)

    def test_structures_resemble_their_neighbours(self) -> None:
        for seed in range(50):
            means = class_means(np.random.default_rng(seed), STRUCTURE_ANATOMY)
            mean = dict(zip(STRUCTURE_ANATOMY.intensity_classes, means, strict=False))
            assert 0.9 * mean["hippocampus"] < mean["amygdala"] < 1.1 * mean["hippocampus"]
            assert mean["accumbens"] < max(mean["caudate"], mean["putamen"]) + 0.1
            assert mean["ventricle"] <= mean["third_ventricle"] < mean["cortex"]
            assert mean["ventral_dc"] > mean["cortex"]

    def test_structures_change_no_tissue(self) -> None:
        tissues = dict(zip(TISSUE_ANATOMY.intensity_classes, class_means(np.random.default_rng(4)), strict=False))
        means = class_means(np.random.default_rng(4), STRUCTURE_ANATOMY)
        structures = dict(zip(STRUCTURE_ANATOMY.intensity_classes, means, strict=False))
        assert tissues == {name: structures[name] for name in tissues}


def test_a_reference_model_knows_the_structures(head: Head) -> None:
    classes = np.where(head.classes < FIRST_OUTER, 0, head.classes)
    for name in TISSUE_ANATOMY.parts:
        classes[head.classes == TISSUE_ANATOMY.number(name)] = STRUCTURE_ANATOMY.number(name)
    one = Head("phantom", classes, head.mask, head.centre_mm, head.std_mm, STRUCTURE_ANATOMY)
    model = fit_reference_model([one], ALIGNMENT, SHAPE, 1.5, 2.0)
    assert model.atlas.shape[0] == len(model.intensity_range) == len(STRUCTURE_ANATOMY.class_of)
    assert model.tissue_of.max() == len(STRUCTURES) - 1 > len(TISSUES)
    centre = np.rint(grid_to_head(one, ALIGNMENT, 1.5) @ [31.5, 31.5, 31.5, 1]).astype(int)
    assert classes[tuple(centre)] == STRUCTURE_ANATOMY.number("ventricle")
    assert model.average()[(STRUCTURES.index("lateral ventricle"), 31, 31, 31)] > 0.7
