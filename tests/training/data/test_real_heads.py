from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv.errors import InputError
from mixpriv.training.data.real_heads import load_real_heads, sample_real_head
from mixpriv.training.specs import Augmentation

STILL = Augmentation(rotation_deg=0.0, scale=0.0, shear=0.0, shift_voxels=0.0, elastic_voxels=0.0, flip=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bright block of 40 x 20 x 20 mm in a scan whose axes run to P, R and S."""
    mask = np.zeros((30, 40, 25), np.uint8)
    mask[10:20, 10:30, 5:15] = 1
    affine = np.array([[0, 1.0, 0, 7], [-4.0, 0, 0, 90], [0, 0, 2.0, -30], [0, 0, 0, 1]])
    scan = (1000.0 * mask + 20).astype(np.float32)
    nib.save(nib.Nifti1Image(scan, affine), tmp_path / "one.nii.gz")
    nib.save(nib.Nifti1Image(mask, affine), tmp_path / "one_mask.nii.gz")
    return tmp_path


class TestRealHeads:
    def test_its_brain_lies_in_the_middle_in_any_axes(self, folder: Path) -> None:
        (head,) = load_real_heads(folder)
        image, brain = sample_real_head(head, np.zeros(3), (32, 32, 32), 2.0, STILL, np.random.default_rng(0))
        where = np.argwhere(brain.numpy())
        np.testing.assert_allclose(where.mean(axis=0), 15.5, atol=0.6)
        extent_mm = 2.0 * np.ptp(where, axis=0)
        np.testing.assert_allclose(extent_mm, [20, 40, 20], atol=4)  # R, A, S
        assert float(image[brain].mean()) > 3 * float(image[~brain].mean())

    def test_it_is_shifted(self, folder: Path) -> None:
        (head,) = load_real_heads(folder)
        _, brain = sample_real_head(head, np.array([0, 0, 12.0]), (32, 32, 32), 2.0, STILL, np.random.default_rng(0))
        np.testing.assert_allclose(np.argwhere(brain.numpy()).mean(axis=0), [15.5, 15.5, 9.5], atol=0.6)

    def test_a_folder_without_masks_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="with masks NAME_mask"):
            list(load_real_heads(tmp_path))
