"""Where results go, and what is told beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixpriv.bundle import load_bundle
from mixpriv.client.naming import Outputs, dataset_of, outputs_of
from mixpriv.client.sidecar import begin_dataset, encode_sidecar
from mixpriv.client.table import COLUMNS
from mixpriv.errors import InputError


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    return tmp_path


@pytest.mark.parametrize(
    ("scan", "output", "labels"),
    [
        ("a.nii", None, "a_dseg.nii.gz"),
        ("a.nii.gz", None, "a_dseg.nii.gz"),
        ("a.img", None, "a_dseg.nii.gz"),
        ("a.mgz", None, "a_dseg.mgz"),
        ("a.mgh", None, "a_dseg.mgz"),
        ("a.mgz", "b.nii", "b.nii"),
        ("a.nii", "b.MGH", "b.MGH"),
        ("a.mgz", ".", "a_dseg.mgz"),
    ],
)
def test_beside_the_scan_in_its_own_format(
    scan: str, output: str | None, labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = outputs_of(Path(scan), Path(output) if output else None)
    assert files.labels == Path(labels)
    assert files.dataset is None


@pytest.mark.parametrize("output", ["b", "b.txt", "b.img"])
def test_an_output_of_no_known_format(output: str) -> None:
    with pytest.raises(InputError, match=rf"{output}: expected an output named \.nii"):
        outputs_of(Path("a.nii"), Path(output))


def test_a_dicom_folder_has_results_in_dicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t1").mkdir()
    files = outputs_of(tmp_path / "t1")
    assert [path.name for path in files.all()] == ["t1_dseg.dcm", "t1_dseg_sr.dcm", "t1_dseg.tsv", "t1_dseg.json"]
    assert outputs_of(tmp_path / "t1", Path("b.nii")).all() == [Path("b.nii"), Path("b.tsv"), Path("b.json")]
    monkeypatch.chdir(tmp_path / "t1")
    assert outputs_of(Path()).labels.name == "t1_dseg.dcm"


def test_another_scan_has_no_results_in_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"")
    with pytest.raises(InputError, match=r"b\.dcm: expected a DICOM scan for an output in DICOM"):
        outputs_of(tmp_path / "a.nii", Path("b.dcm"))


@pytest.mark.parametrize(
    ("scan", "labels"),
    [
        ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_dseg.nii.gz"),
        ("sub-01/ses-b/anat/sub-01_ses-b_T1w.nii", "sub-01/ses-b/anat/sub-01_ses-b_dseg.nii.gz"),
        (
            "sub-01/ses-b/anat/sub-01_ses-b_acq-x_rec-y_run-2_T1w.nii",
            "sub-01/ses-b/anat/sub-01_ses-b_acq-x_rec-y_run-2_dseg.nii.gz",
        ),
        ("sub-01/anat/sub-01_UNIT1.nii.gz", "sub-01/anat/sub-01_desc-UNIT1_dseg.nii.gz"),
        ("sub-01/anat/sub-01_desc-preproc_T1w.nii.gz", "sub-01/anat/sub-01_desc-preproc_dseg.nii.gz"),
    ],
)
def test_of_a_bids_dataset_as_its_derivatives(scan: str, labels: str, dataset: Path) -> None:
    out = dataset / "derivatives" / "mixpriv"
    assert outputs_of(dataset / scan) == Outputs(out / labels, out)


def test_by_another_way_to_it(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (dataset / "sub-1" / "anat").mkdir(parents=True)
    monkeypatch.chdir(dataset / "sub-1" / "anat")
    assert dataset_of(Path("sub-1_T1w.nii")) == dataset
    assert dataset_of(Path("../anat/sub-1_T1w.nii")) == dataset


@pytest.mark.parametrize(
    "scan",
    [
        "sub-01/anat/scan.nii.gz",
        "sub-01/anat/sub-02_T1w.nii.gz",
        "sub-01_T1w.nii.gz",
        "anat/sub-01_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-b_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_my scan_T1w.nii.gz",
    ],
)
def test_what_only_looks_like_it(scan: str, dataset: Path) -> None:
    assert outputs_of(dataset / scan).dataset is None


def test_without_a_description_it_is_no_dataset(tmp_path: Path) -> None:
    assert dataset_of(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz") is None


def test_the_sidecar_tells_how_and_names_nobody(dataset: Path) -> None:
    bundle = load_bundle("hippocampus")
    plain = encode_sidecar(dataset / "Jane_Doe.nii.gz", bundle, "mixup", 2)
    assert b"Doe" not in plain
    assert "Sources" not in json.loads(plain)
    document = json.loads(encode_sidecar(dataset / "sub-01/anat/sub-01_T1w.nii.gz", bundle, "mixup", 2))
    assert document["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]
    assert document["Mixpriv"]["Mode"] == "mixup"
    assert set(COLUMNS) - {"index"} < set(document)


def test_a_dataset_is_begun_once(tmp_path: Path) -> None:
    bundle = load_bundle("hippocampus")
    out = tmp_path / "derivatives" / "mixpriv"
    begin_dataset(out, bundle, tmp_path / "a.nii")
    description = out / "dataset_description.json"
    assert json.loads(description.read_text())["DatasetType"] == "derivative"
    description.write_text("mine")
    begin_dataset(out, bundle, tmp_path / "a.nii")
    assert description.read_text() == "mine"
