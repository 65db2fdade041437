"""Results in DICOM: labels lie where those of NIfTI lie, codes are right, and the study is the scan's."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from mixpriv.bundle import load_bundle
from mixpriv.client.codes import codes_of
from mixpriv.client.dicom import encode_dicom
from mixpriv.client.segmentation import Segmentation
from mixpriv.errors import InputError
from mixpriv.imaging.volume import Volume, load_volume
from mixpriv.labels import Labelling
from tests.support.dicomfile import AXIAL, NAMES, OBLIQUE, SAGITTAL, enhanced, images, save

pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")

VOXELS = np.random.default_rng(0).integers(0, 900, (16, 20, 12)).astype(np.int16)
BUNDLE = load_bundle("hippocampus")


def segmentation(scan: Volume) -> Segmentation:
    """Labels that no turned or mirrored grid has."""
    labels = np.zeros(scan.shape, np.uint8, order="F")
    labels[3:9, 5:9, 2:8] = 1
    labels[9:12, 5:9, 4:11] = 2
    return Segmentation(
        labels=labels, labelling=Labelling.of(BUNDLE), bundle=BUNDLE, scan=scan, probabilities=np.zeros(0, np.float32),
        conformed=None, brain_ml=None, server=None, exchanges=(), warnings=(),  # type: ignore[arg-type]
    )  # fmt: skip


def series(folder: Path, affine: Any = AXIAL, *, frames: bool = False) -> Volume:
    made = images(VOXELS, affine)
    return load_volume(save([enhanced(made)] if frames else made[::-1], folder / "scan"))


def read(content: bytes) -> Any:
    import pydicom

    return pydicom.dcmread(io.BytesIO(content))


def in_space(labels: Any, affine: Any) -> set[tuple[float, ...]]:
    """Where labelled voxels lie, (R, A, S) mm, and their label."""
    index = np.argwhere(labels)
    places = nib.affines.apply_affine(affine, index).round(2) + 0.0
    return {(*place, float(labels[tuple(i)])) for place, i in zip(places.tolist(), index, strict=True)}


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE, SAGITTAL])
@pytest.mark.parametrize("frames", [False, True])
class TestPlace:
    def test_by_highdicom(self, affine: Any, frames: bool, tmp_path: Path) -> None:
        from highdicom.seg import Segmentation as SegmentationImage

        result = segmentation(series(tmp_path, affine, frames=frames))
        made = SegmentationImage.from_dataset(read(encode_dicom(result, "none")[0]))
        volume = made.get_volume(combine_segments=True)
        theirs = in_space(volume.array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine)
        assert theirs == in_space(result.labels, result.affine)

    def test_by_dcmqi(self, affine: Any, frames: bool, tmp_path: Path) -> None:
        reader = shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if reader is None:
            pytest.skip("dcmqi is not installed")
        result = segmentation(series(tmp_path, affine, frames=frames))
        (tmp_path / "seg.dcm").write_bytes(encode_dicom(result, "none")[0])
        command = [reader, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nii"]
        subprocess.run([*command, "--mergeSegments"], check=True, capture_output=True)
        image = nib.load(tmp_path / "1.nii.gz")
        assert in_space(np.asarray(image.dataobj), image.affine) == in_space(result.labels, result.affine)


def test_study_and_patient_are_the_scans(tmp_path: Path) -> None:
    scan = series(tmp_path)
    first = scan.header.headers[0]
    for made in map(read, encode_dicom(segmentation(scan), "none")):
        for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyID", "AccessionNumber"):
            assert made.get(name) == first.get(name)
        assert made.SeriesInstanceUID != first.SeriesInstanceUID
    assert read(encode_dicom(segmentation(scan), "none")[0]).FrameOfReferenceUID == first.FrameOfReferenceUID


def test_the_report_has_the_volumes(tmp_path: Path) -> None:
    from highdicom.sr import EnhancedSR

    result = segmentation(series(tmp_path))
    image, report = map(read, encode_dicom(result, "none"))
    groups = EnhancedSR.from_dataset(report).content.get_volumetric_roi_measurement_groups()
    assert [group.get_measurements()[0].value for group in groups] == [volume.volume_ml for volume in result.volumes]
    assert {group.referenced_segment.referenced_sop_instance_uid for group in groups} == {image.SOPInstanceUID}


def test_asked_again_it_has_the_same_uids(tmp_path: Path) -> None:
    scan = series(tmp_path)
    one, two = (segmentation(scan) for _ in range(2))
    uids = [[read(content).SOPInstanceUID for content in encode_dicom(result, "none")] for result in (one, two)]
    assert uids[0] == uids[1]
    two.labels[0, 0, 0] = 1
    assert read(encode_dicom(two, "none")[0]).SOPInstanceUID != uids[0][0]


def test_a_scan_of_another_format(tmp_path: Path) -> None:
    scan = Volume(np.asfortranarray(VOXELS, np.float32), AXIAL, None, "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: expected a scan read from DICOM"):
        encode_dicom(segmentation(scan), "none")


def test_a_scan_without_a_study(tmp_path: Path) -> None:
    made = images(VOXELS, StudyInstanceUID=None)
    with pytest.raises(InputError, match=r"lack attributes that results in DICOM need") as caught:
        encode_dicom(segmentation(load_volume(save(made, tmp_path / "s"))), "none")
    assert not [name for name in NAMES if name in str(caught.value)]


@pytest.mark.parametrize(
    ("name", "code", "side"),
    [
        ("white matter", "389080008", None),
        ("left hippocampus", "5366008", "7771000"),
        ("right lateral ventricle", "66720007", "24028007"),
        ("something new", "12738006", None),
    ],
)
def test_codes(name: str, code: str, side: str | None) -> None:
    found = codes_of(name)
    assert (found.type.scheme_designator, found.type.value) == ("SCT", code)
    assert (found.side.value if found.side else None) == side


@pytest.mark.parametrize("bundle", ["brain-t1", "hippocampus"])
def test_every_class_that_ships_has_a_code(bundle: str) -> None:
    for label in Labelling.of(load_bundle(bundle)).labels[1:]:
        assert codes_of(label.name).type.value != "12738006", label.name
