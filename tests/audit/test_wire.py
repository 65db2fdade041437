"""What --save-wire wrote is audited; a field too many is found."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv.audit.cohort import Visit
from mixpriv.audit.simulation import client_key, several
from mixpriv.audit.wire import find_wires, identifying_fields
from mixpriv.audit.wire_audit import audit_wire
from mixpriv.bundle import Bundle, load_bundle
from mixpriv.client.segmentation import Exchange
from mixpriv.client.wire_record import read_wire, save_wire
from mixpriv.errors import InputError
from mixpriv.imaging.resample import Conformed, Grid
from mixpriv.imaging.volume import Volume
from mixpriv.protection.modes import Mixup, Mode, Plain
from mixpriv.timing import Timings
from tests.audit.conftest import Stage

ANSWER = (5, 24, 32, 28)


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Bundle:
    bundle = load_bundle("brain-t1")
    object.__setattr__(bundle, "grid_shape", stage.environment.shape)
    object.__setattr__(bundle, "spacing_mm", stage.environment.spacing_mm)
    object.__setattr__(bundle, "multiple", 4)
    return bundle


def save(folder: Path, visit: Visit, stage: Stage, bundle: Bundle, mode: Mode, requests: int = 1) -> None:
    folder.mkdir(parents=True)
    sent = several(mode, visit, stage.environment, client_key(0), requests)
    save_wire(folder, [Exchange(one.image[None], np.zeros(ANSWER, np.uint8)) for one in sent], bundle, "host:1")


def conform(volume: Volume, _stages: Timings) -> Conformed:
    image = np.ascontiguousarray(volume.voxels)
    d, h, w = image.shape
    return Conformed(
        image[None], (image > 0).astype(np.uint8), ((0.0, 1.0),), Grid((d, h, w), np.diag([6.0, 6.0, 6.0, 1.0]))
    )


@pytest.fixture
def gallery(tmp_path: Path, stage: Stage) -> Path:
    for visit in stage.cohort.gallery:
        name = visit.subject.replace("phantom-", "sub-")
        path = tmp_path / "gallery" / name / f"{name}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(visit.image, np.diag([6.0, 6.0, 6.0, 1.0])), path)
    return tmp_path / "gallery"


def test_saved_scans_are_linked(tmp_path: Path, gallery: Path, stage: Stage, bundle: Bundle) -> None:
    for visit in stage.cohort.queries[:3]:
        save(tmp_path / "wire" / f"{visit.subject.replace('phantom-', 'sub-')}_T1w", visit, stage, bundle,
             Mixup(0.6), 2)  # fmt: skip
    audit, about = audit_wire(tmp_path / "wire", gallery, conform, bundle)
    found = {one.figure: one.value for one in audit.findings if one.mode == "as sent"}
    assert found["rank-1, best way"] == 1.0
    assert found["rank-1, best way, mean of all requests"] == 1.0
    assert found["identifying fields"] == 0
    assert "3 saved scans, 6 requests" in about[0]


def test_whose_it_is_must_be_known(tmp_path: Path, gallery: Path, stage: Stage, bundle: Bundle) -> None:
    save(tmp_path / "wire" / "sub-99_T1w", stage.cohort.queries[0], stage, bundle, Plain())
    with pytest.raises(InputError, match="expected folders named as people of the gallery, sub-NAME_\\*, got 'sub-99'"):
        audit_wire(tmp_path / "wire", gallery, conform, bundle)


def test_fields_beyond_the_contract(tmp_path: Path, stage: Stage, bundle: Bundle) -> None:
    save(tmp_path / "wire", stage.cohort.queries[0], stage, bundle, Plain())
    assert identifying_fields(tmp_path / "wire") == []
    document = json.loads((tmp_path / "wire" / "request.json").read_text())
    (tmp_path / "wire" / "request.json").write_text(json.dumps(document | {"patient": "x"}))
    (tmp_path / "wire" / "scan.nii.gz").write_bytes(b"")
    image = nib.load(tmp_path / "wire" / "mixture.nii.gz")
    image.header["descrip"] = b"a name"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.eye(4), image.header), tmp_path / "wire" / "mixture.nii.gz")
    found = identifying_fields(tmp_path / "wire")
    assert found == [
        "request.json: patient", "mixture.nii.gz: descrip", "file 3 of another name", "grids differ",
    ]  # fmt: skip


def test_what_is_no_wire(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a folder of --save-wire with request\.json, got none"):
        find_wires(tmp_path)
    (tmp_path / "request.json").write_text('{"requests": [{"sent": {"file": "../x"}, "received": {"file": "y"}}]}')
    with pytest.raises(InputError, match="expected files named mixture"):
        read_wire(tmp_path)
    (tmp_path / "request.json").write_text("{}")
    with pytest.raises(InputError, match="not a folder of --save-wire"):
        read_wire(tmp_path)
    (tmp_path / "request.json").write_text('{"requests": []}')
    with pytest.raises(InputError, match=r"request\.json: expected a request or more, got none"):
        read_wire(tmp_path)
