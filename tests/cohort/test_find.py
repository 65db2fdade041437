from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv.bundle import load_bundle
from mixpriv.client.naming import Outputs
from mixpriv.client.sidecar import encode_sidecar
from mixpriv.cohort.find import LABELS, OTHER, OWN, find_scans, made_by_mixpriv
from mixpriv.errors import InputError
from mixpriv.imaging.volume import encode_as_named, encode_image, load_volume
from tests.support.dicomfile import images, save
from tests.support.phantom import write_scan

T1W = ("T1w",)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scan(tmp_path_factory.mktemp("one") / "head.nii.gz")


@pytest.fixture
def cohort(tmp_path: Path, scan: Path) -> Path:
    """A folder with scans at several depths and much else."""
    for name in ("b/two.nii.gz", "a.nii.gz", "b/c/three.nii", "one_dseg.nii.gz", "brain_mask.nii.gz", "._a.nii.gz",
                 ".hidden/x.nii.gz", "sub-1_bold.nii.gz", "sub-1_T1w.nii.gz", "notes.txt", "dseg.nii.gz"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(scan.read_bytes())
    return tmp_path


def names(folder: Path, *arguments: object) -> list[str]:
    return [str(f.scan.relative_to(folder)) for f in find_scans([folder], T1W, *arguments).scans]  # type: ignore[arg-type]


def labels_of(scan: Path, path: Path) -> Path:
    volume = load_volume(scan)
    path.write_bytes(encode_as_named(path, np.ones(volume.shape, np.uint8, order="F"), volume))
    if path.suffix == ".mgz":
        path.with_suffix(".json").write_bytes(encode_sidecar(scan, load_bundle(), "none", 1))
    return path


class TestFolders:
    def test_scans_by_name_and_what_was_left_out(self, cohort: Path) -> None:
        found = find_scans([cohort], T1W)
        assert names(cohort) == ["a.nii.gz", "dseg.nii.gz", "sub-1_T1w.nii.gz", "b/two.nii.gz", "b/c/three.nii"]
        assert [str(f.below) for f in found.scans] == [".", ".", ".", "b", "b/c"]
        assert found.left_out == {LABELS: 2, OTHER: 1}
        assert not any(f.named for f in found.scans)

    def test_nothing_below_the_output(self, cohort: Path) -> None:
        assert "b/two.nii.gz" not in names(cohort, cohort / "b")
        assert len(names(cohort, cohort)) == 5

    def test_links_to_folders_once(self, cohort: Path) -> None:
        (cohort / "loop").symlink_to(cohort)
        (cohort / "again").symlink_to(cohort / "b")
        assert len(names(cohort)) == 5

    def test_raw_scans_alone_of_a_bids_dataset(self, cohort: Path, scan: Path) -> None:
        for name in ("derivatives/x/sub-1_T1w.nii.gz", "sourcedata/sub-1_T1w.nii.gz"):
            (cohort / name).parent.mkdir(parents=True)
            (cohort / name).write_bytes(scan.read_bytes())
        assert len(names(cohort)) == 7
        (cohort / "dataset_description.json").write_text("{}")
        assert len(names(cohort)) == 5

    def test_broken_files_are_scans_that_will_be_told(self, tmp_path: Path) -> None:
        (tmp_path / "text.nii.gz").write_text("text")
        (tmp_path / "empty.nii").touch()
        (tmp_path / "gone.nii").symlink_to(tmp_path / "nowhere")
        assert names(tmp_path) == ["empty.nii", "gone.nii", "text.nii.gz"]

    def test_an_empty_one_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"expected scans, found none$"):
            find_scans([tmp_path], T1W)


class TestOwnResults:
    @pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.mgz"])
    def test_are_known_whatever_they_are_called(self, scan: Path, tmp_path: Path, name: str) -> None:
        assert made_by_mixpriv(labels_of(scan, tmp_path / name))
        assert names(scan.parent) == ["head.nii.gz"]
        with pytest.raises(InputError, match="found none, but 1 results of mixpriv"):
            find_scans([tmp_path], T1W)

    @pytest.mark.parametrize("name", ["x.mgz", "x_dseg.mgz"])
    def test_a_map_of_confidence_is_none(self, scan: Path, tmp_path: Path, name: str) -> None:
        labels = Outputs(labels_of(scan, tmp_path / name))
        labels_of(scan, labels.confidence)
        labels.confidence.with_suffix(".json").unlink()
        assert made_by_mixpriv(labels.confidence)

    def test_what_was_sent_is_no_scan_either(self, tmp_path: Path) -> None:
        (tmp_path / "mixture.nii").write_bytes(encode_image(np.zeros((16, 16, 16), np.float32), 1.0))
        assert made_by_mixpriv(tmp_path / "mixture.nii")

    def test_are_left_out_of_named_files(self, scan: Path, tmp_path: Path) -> None:
        found = find_scans([scan, labels_of(scan, tmp_path / "head_dseg.nii.gz")], T1W)
        assert ([f.scan for f in found.scans], found.left_out) == ([scan], {OWN: 1})

    def test_of_others_that_are_named_are_the_users_choice(self, scan: Path, tmp_path: Path) -> None:
        nib.save(nib.load(scan), tmp_path / "other_dseg.nii.gz")
        assert find_scans([tmp_path / "other_dseg.nii.gz"], T1W).scans[0].named


class TestDicom:
    """Studies among other files: which of them are scans."""

    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")

    @staticmethod
    def study(folder: Path, **attributes: object) -> Path:
        return save(images(np.arange(16**3).reshape(16, 16, 16).astype(np.int16), **attributes), folder)

    def test_each_study_at_any_depth(self, tmp_path: Path) -> None:
        for name, study in (("a/t1", "1.2.3"), ("a/t2", "1.2.3"), ("b/t1", "1.2.4")):
            self.study(tmp_path / "export" / name, StudyInstanceUID=study)
        assert names(tmp_path) == ["export/a", "export/b"]

    def test_nothing_below_the_output_nor_in_what_is_not_raw(self, tmp_path: Path, scan: Path) -> None:
        (tmp_path / "dataset_description.json").write_text("{}")
        (tmp_path / "head.nii.gz").write_bytes(scan.read_bytes())
        for name in ("sourcedata/sub-1", "sourcedata/sub-2", ".hidden", "out"):
            self.study(tmp_path / name)
        assert names(tmp_path, tmp_path / "out") == ["head.nii.gz"]

    def test_studies_without_mr_images_are_left_out(self, tmp_path: Path) -> None:
        self.study(tmp_path / "a")
        self.study(tmp_path / "b", Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
        assert names(tmp_path) == ["a"]
        assert find_scans([tmp_path], T1W).left_out == {OTHER: 1}
        assert names(tmp_path / "b") == ["."]  # whose reader says what it is

    def test_many_other_files_are_no_hindrance(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mixpriv.imaging.dicom.files.MOST_FILES", 20)
        self.study(tmp_path / "a")
        (tmp_path / "b").mkdir()
        for n in range(30):
            (tmp_path / "b" / f"{n}.json").touch()
        assert names(tmp_path) == ["."]

    def test_a_loop_of_links_ends(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            self.study(tmp_path / name)
        (tmp_path / "loop").symlink_to(tmp_path)
        (tmp_path / "again").symlink_to(tmp_path / "a")
        assert len(names(tmp_path)) == 2
