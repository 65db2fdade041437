"""DICOM: the T1-weighted series is chosen and lies where it should, or it is refused in one line that names nobody."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixpriv.errors import InputError
from mixpriv.imaging.volume import Volume, load_volume
from tests.support.dicomfile import AXIAL, NAMES, OBLIQUE, SAGITTAL, enhanced, images, save

pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:highdicom")

VOXELS = np.random.default_rng(0).integers(-9, 900, (16, 20, 12)).astype(np.int16)


def refused(path: Path, message: str, series: str | None = None) -> str:
    with pytest.raises(InputError, match=message) as caught:
        load_volume(path, series=series)
    text = str(caught.value)
    assert "\n" not in text
    assert not [name for name in NAMES if name in text]
    return text


def right(scan: Volume, affine: Any = AXIAL) -> None:
    np.testing.assert_array_equal(scan.voxels, VOXELS)
    np.testing.assert_allclose(scan.affine, affine, atol=1e-6)


def corners(affine: Any, shape: Any) -> list[tuple[float, ...]]:
    """Where the first and last voxels of a grid lie, in an order that does not depend on its axes."""
    ends = [[end * (size - 1) for end, size in zip(corner, shape, strict=True)] for corner in np.ndindex(2, 2, 2)]
    return sorted(tuple((affine @ [*end, 1])[:3].round(4)) for end in ends)


class TestGeometry:
    @pytest.mark.parametrize("affine", [AXIAL, OBLIQUE, SAGITTAL])
    def test_is_the_patients(self, affine: Any, tmp_path: Path) -> None:
        right(load_volume(save(images(VOXELS, affine), tmp_path / "s")), affine)

    @pytest.mark.parametrize("affine", [AXIAL, OBLIQUE, SAGITTAL])
    def test_is_that_of_highdicom(self, affine: Any, tmp_path: Path) -> None:
        from highdicom import get_volume_from_series

        made = images(VOXELS, affine)
        theirs = get_volume_from_series(made)
        scan = load_volume(save(made, tmp_path / "s"))
        to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
        expected = corners(to_ras @ theirs.affine, theirs.spatial_shape)
        np.testing.assert_allclose(corners(scan.affine, scan.shape), expected, atol=1e-4)

    @pytest.mark.parametrize("affine", [AXIAL, OBLIQUE, SAGITTAL])
    def test_of_many_frames(self, affine: Any, tmp_path: Path) -> None:
        save([enhanced(images(VOXELS, affine))], tmp_path / "s")
        right(load_volume(tmp_path / "s"), affine)
        right(load_volume(next((tmp_path / "s").iterdir())), affine)

    def test_values_are_scaled(self, tmp_path: Path) -> None:
        scaled = images(VOXELS, RescaleSlope=2, RescaleIntercept=lambda k: -k)
        expected = VOXELS * 2.0 - np.arange(12)
        np.testing.assert_array_equal(load_volume(save(scaled, tmp_path / "s")).voxels, expected)

    def test_one_of_its_slices_stands_for_all(self, tmp_path: Path) -> None:
        folder = save(images(VOXELS), tmp_path / "s")
        save(images(VOXELS[::-1], SeriesNumber=9), tmp_path / "s")
        one = next(path for path in folder.iterdir() if load_volume(path).voxels[0, 0, 0] == VOXELS[0, 0, 0])
        right(load_volume(one))


class TestAccidents:
    def test_copies_of_files_are_one(self, tmp_path: Path) -> None:
        made = images(VOXELS)
        save(made, tmp_path / "s" / "a")
        save(made, tmp_path / "s" / "b")
        right(load_volume(tmp_path / "s"))

    def test_a_slice_is_missing(self, tmp_path: Path) -> None:
        made = images(VOXELS)
        del made[5]
        refused(save(made, tmp_path / "s"), "slices are missing: a gap")

    def test_slices_at_the_end_are_missing(self, tmp_path: Path) -> None:
        made = images(VOXELS, ImagesInAcquisition=12)[:10]
        refused(save(made, tmp_path / "s"), "slices are missing: expected 12, got 10")

    def test_slices_twice(self, tmp_path: Path) -> None:
        folder = save(images(VOXELS, SeriesInstanceUID="1.2.3"), tmp_path / "s")
        refused(save(images(VOXELS, SeriesInstanceUID="1.2.3"), folder), "several images at one place")

    def test_uneven_distances(self, tmp_path: Path) -> None:
        made = images(VOXELS)
        made[5].ImagePositionPatient[2] += 0.5
        refused(save(made, tmp_path / "s"), "distances between its slices differ")

    def test_a_tilted_gantry(self, tmp_path: Path) -> None:
        made = images(VOXELS)
        for k, image in enumerate(made):
            image.ImagePositionPatient[1] += 0.4 * k
        refused(save(made, tmp_path / "s"), "not stacked at right angles")

    def test_slices_of_two_directions(self, tmp_path: Path) -> None:
        made = images(VOXELS)
        made[3].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        refused(save(made, tmp_path / "s"), "differ in size or direction")

    @pytest.mark.parametrize("name", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"])
    def test_a_slice_that_does_not_say_where_it_is(self, name: str, tmp_path: Path) -> None:
        made = images(VOXELS)
        delattr(made[2], name)
        refused(save(made, tmp_path / "s"), "lacks what a grey slice has")

    def test_pixels_are_missing(self, tmp_path: Path) -> None:
        made = images(VOXELS)
        made[2].PixelData = made[2].PixelData[:100]
        refused(save(made, tmp_path / "s"), "pixels of an image are missing")

    def test_truncated_and_foreign_files_are_no_images(self, tmp_path: Path) -> None:
        folder = save(images(VOXELS), tmp_path / "s")
        (folder / "notes.txt").write_text("ROE^RICHARD")
        (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(40))
        right(load_volume(folder))
        for path in folder.glob("*.dcm"):
            path.write_bytes(path.read_bytes()[:200])
        refused(folder, "damaged, compressed as a whole, or hold no images")

    def test_a_folder_without_any(self, tmp_path: Path) -> None:
        refused(tmp_path, "a folder with DICOM files, got a folder without any")


class TestChoice:
    def test_is_told_where_there_is_one(self, tmp_path: Path) -> None:
        save(images(VOXELS), tmp_path / "s")
        save(images(VOXELS[:, :, :9], SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path / "s")
        save(images(VOXELS, SeriesNumber=4, SeriesDescription="t2_space", EchoTime=300), tmp_path / "s")
        scan = load_volume(tmp_path / "s")
        right(scan)
        assert scan.warnings == (
            "took series 3 (t1_mprage_sag): MR, 3-D, 12 images; its name says T1w, as of no other of 3 series",
        )

    def test_by_its_timing_if_it_has_no_name(self, tmp_path: Path) -> None:
        save(images(VOXELS, SeriesDescription=""), tmp_path / "s")
        save(images(VOXELS, SeriesNumber=4, SeriesDescription="flair"), tmp_path / "s")
        assert "its timing says T1w" in load_volume(tmp_path / "s").warnings[0]

    def test_of_several_is_the_users(self, tmp_path: Path) -> None:
        save(images(VOXELS), tmp_path / "s")
        save(images(VOXELS[::-1], SeriesNumber=7, SeriesDescription="T1 post ROE"), tmp_path / "s")
        text = refused(tmp_path / "s", "several series may be T1-weighted, choose by --series")
        assert "series 3 (t1_mprage_sag): MR, 3-D, 12 images; series 7: MR, 3-D, 12 images" in text
        assert "ROE" not in text
        right(load_volume(tmp_path / "s", series="3"))
        np.testing.assert_array_equal(load_volume(tmp_path / "s", series="7").voxels, VOXELS[::-1])
        refused(tmp_path / "s", "--series 5: none of that number; found series 3", series="5")

    def test_a_volume_comes_before_slices(self, tmp_path: Path) -> None:
        save(images(VOXELS), tmp_path / "s")
        save(images(VOXELS[::-1], SeriesNumber=2, SeriesDescription="t1 se", MRAcquisitionType="2D"), tmp_path / "s")
        right(load_volume(tmp_path / "s"))

    @pytest.mark.parametrize(
        ("attributes", "reason"),
        [
            ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "CT image, not MR"),
            ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "image type MPR"),
            ({"ScanningSequence": "EP"}, "echo-planar"),
            ({"SeriesDescription": "T2 FLAIR"}, "nothing says T1-weighted"),
            ({"SeriesDescription": "", "EchoTime": 80, "RepetitionTime": 4000}, "nothing says T1-weighted"),
            ({"Modality": "ROE^RICHARD", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "no image, not MR"),
        ],
    )
    def test_what_cannot_be_one(self, attributes: dict[str, Any], reason: str, tmp_path: Path) -> None:
        refused(save(images(VOXELS, **attributes), tmp_path / "s"), f"expected a T1-weighted MR series.*{reason}")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(images(VOXELS), tmp_path / "s")
    monkeypatch.setitem(importlib.import_module("sys").modules, "pydicom", None)
    refused(tmp_path / "s", r"DICOM needs the extra 'dicom': pip install 'mixpriv\[dicom\]'")
