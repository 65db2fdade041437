"""Crops as training targets: split, deformation, and the reference model fitted to them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from mixpriv.datasets import split
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.crop import conform_crop
from mixpriv.imaging.volume import Volume
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import draw_reference
from mixpriv.training.data.crops import LabelledCrop, LabelledCrops, place, read_crop
from mixpriv.training.data.sources import open_targets
from mixpriv.training.examples import Examples, ReferencePool
from mixpriv.training.joint import JointModel, SegmentationLoss, losses
from mixpriv.training.specs import Region
from tests.support.toybundle import write_toy_crop_bundle
from tests.training.test_training import CONFIG as HEADS

REGION = Region("hippocampus", (12.0,) * 3, (32.0,) * 3, 4, 3)
CONFIG = HEADS.changed(
    classes=("background", "front", "back"),
    grid_shape=(32, 32, 32),
    spacing_mm=1.0,
    alignment=None,
    region=REGION,
    plain_steps=0,
    references=3,
    reference_warp_mm=1.0,
    batch=2,
)
FULL = (slice(0, 32),) * 3


def write_crops(folder: Path, count: int) -> None:
    """Crops with dark, middle and bright tissue and a labelled body of two parts in the middle."""
    rng = np.random.default_rng(0)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        shape = tuple(rng.integers(20, 27, 3))
        grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
        body = sum(g**2 for g in grid) < 0.3
        labels = np.where(body, np.where(grid[1] > 0, 1, 2), 0).astype(np.uint8)
        image = 100 * (1 + np.digitize(grid[2], (-0.3, 0.3))) + rng.normal(0, 3, shape)
        image[body] = 250 + rng.normal(0, 3, int(body.sum()))
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", labels)):
            nib.Nifti1Image(array, np.eye(4)).to_filename(folder / part / f"part_{number:03d}.nii.gz")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> LabelledCrops:
    folder = tmp_path_factory.mktemp("crops")
    write_crops(folder, 8)
    targets = open_targets(CONFIG, folder)
    assert isinstance(targets, LabelledCrops)
    return targets


class TestReading:
    def test_the_held_out_are_not_read(self, crops: LabelledCrops) -> None:
        assert [crop.name for crop in crops.crops] == [f"part_{n:03d}" for n in (0, 1, 2, 4, 5, 6)]
        training, held_out = split([f"{n}" for n in range(8)], 4)
        assert held_out == ["3", "7"]
        assert not set(training) & set(held_out)

    def test_a_flipped_file_is_the_same_crop(self, tmp_path: Path) -> None:
        write_crops(tmp_path, 1)
        paths = [tmp_path / part / "part_000.nii.gz" for part in ("imagesTr", "labelsTr")]
        first = read_crop(*paths, 1.0, 3)
        for path in paths:
            image = nib.Nifti1Image.from_filename(path)
            array, affine = np.asarray(image.dataobj)[::-1], np.diag((-1.0, 1, 1, 1))
            nib.Nifti1Image(array.transpose(1, 0, 2), affine[:, [1, 0, 2, 3]]).to_filename(path)
        again = read_crop(*paths, 1.0, 3)
        np.testing.assert_array_equal(again.image, first.image)
        np.testing.assert_array_equal(again.labels, first.labels)

    def test_an_unknown_label_is_refused(self, tmp_path: Path) -> None:
        write_crops(tmp_path, 1)
        with pytest.raises(InputError, match=r"part_000.* expected labels 0 to 1, got others"):
            read_crop(tmp_path / "imagesTr/part_000.nii.gz", tmp_path / "labelsTr/part_000.nii.gz", 1.0, 2)

    def test_an_empty_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="expected images in imagesTr and labels in labelsTr, found none"):
            open_targets(CONFIG, tmp_path)

    @pytest.mark.parametrize("shape", [(16, 24, 16), (21, 33, 24), (32, 47, 31)])
    def test_a_crop_lies_where_the_client_puts_it(self, shape: tuple[int, int, int], tmp_path: Path) -> None:
        bundle = write_toy_crop_bundle(tmp_path)
        voxels = np.random.default_rng(0).random(shape).astype(np.float32)
        target = conform_crop(Volume(np.asfortranarray(voxels), np.eye(4), None, "crop"), bundle)
        mask = np.zeros(bundle.grid_shape, np.uint8)
        mask[place(shape, bundle.grid_shape)] = 1
        np.testing.assert_array_equal(target.mask, mask)

    def test_tissues_of_one_brightness_are_none(self, crops: LabelledCrops) -> None:
        flat = LabelledCrop(
            "flat", np.repeat(np.float32([0, 1]), 4000).reshape(20, 20, 20), np.zeros((20,) * 3, np.uint8)
        )
        with pytest.raises(InputError, match="flat: expected 3 tissues that differ in brightness, got fewer"):
            LabelledCrops([flat], CONFIG, REGION).reference_model()

    @pytest.mark.parametrize("size", [1, 2, 31, 32])
    def test_a_crop_lies_in_the_middle_by_whole_voxels(self, size: int) -> None:
        box = place((size,), (32,))[0]
        assert box.stop - box.start == size
        assert abs((box.start + box.stop) / 2 - 16) <= 0.5


class TestDrawing:
    def test_image_and_labels_keep_to_the_field_of_view(self, crops: LabelledCrops) -> None:
        for seed in range(5):
            (image,), labels = crops.draw(FULL, np.random.default_rng(seed))
            assert image.shape == labels.shape == (32, 32, 32)
            assert 0 <= float(image.min()) <= float(image.max()) <= 1
            assert not labels[image == 0].float().mean() > 0.05
            assert float(image[0].abs().sum()) == 0
            assert {1, 2} <= set(labels.unique().tolist())

    def test_the_same_generator_draws_the_same(self, crops: LabelledCrops) -> None:
        one, other = (crops.draw(FULL, np.random.default_rng(7)) for _ in range(2))
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


class TestReferenceModel:
    def test_references_show_the_tissues_and_the_labels(self, crops: LabelledCrops) -> None:
        model = crops.reference_model()
        reference = draw_reference(model, Keystream(bytes(32)))
        assert set(np.unique(reference.labels)) == {0, 1, 2}
        assert 0.2 < reference.mask.mean() < 0.9
        assert reference.image[reference.mask == 0].max() == 0
        # k-means finds the dark, the middle and the bright tissue again
        middle = model.intensity_range.mean(1)
        assert middle[1] < middle[2] < middle[3]

    def test_a_joint_step_runs(self, crops: LabelledCrops) -> None:
        source = Examples(CONFIG, crops, ReferencePool(crops.reference_model(), 0, CONFIG.data.references))
        kinds = set()
        for step in range(6):
            example = source.at(step)
            kinds.add(example.reference is None)
            terms = losses(JointModel.of(CONFIG), SegmentationLoss(), example, CONFIG)
            assert all(torch.isfinite(term) for term in terms.values())
        assert kinds == {True, False}
