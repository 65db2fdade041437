"""NIfTI pairs and Analyze: read by either name, as nibabel reads them, or refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from mixpriv.errors import InputError
from mixpriv.imaging.volume import encode_labels, load_volume
from tests.support.niftifile import TURNED, ramp


def save_pair(folder: Path, kind: Any = nib.Nifti1Pair, dtype: str = "<i2", **fields: Any) -> Any:
    image = kind(ramp(dtype=dtype), TURNED if kind in (nib.Nifti1Pair, nib.Nifti2Pair) else None)
    image.header.set_zooms((1.6, 2.5, 2.0))
    nib.save(image, folder / "a.img")
    header = bytearray((folder / "a.hdr").read_bytes())
    for name, value in fields.items():
        place = image.header.template_dtype.fields[name]
        header[place[1] : place[1] + place[0].itemsize] = (
            np.broadcast_to(value, place[0].shape).astype(place[0].base).tobytes()
        )
    (folder / "a.hdr").write_bytes(header)
    return nib.load(folder / "a.img")


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair, nib.Spm99AnalyzeImage, nib.AnalyzeImage])
@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
class TestEither:
    def test_name_leads_to_both(self, kind: Any, name: str, tmp_path: Path) -> None:
        expected = save_pair(tmp_path, kind)
        scan = load_volume(tmp_path / name)
        np.testing.assert_array_equal(scan.voxels, ramp())
        np.testing.assert_allclose(scan.affine, expected.affine, atol=1e-5)

    def test_voxels_may_be_zipped(self, kind: Any, name: str, tmp_path: Path) -> None:
        save_pair(tmp_path, kind)
        (tmp_path / "a.img.gz").write_bytes(gzip.compress((tmp_path / "a.img").read_bytes()))
        (tmp_path / "a.img").unlink()
        scan = load_volume(tmp_path / ("a.img.gz" if name == "a.img" else name))
        np.testing.assert_array_equal(scan.voxels, ramp())

    def test_the_other_is_missed(self, kind: Any, name: str, tmp_path: Path) -> None:
        save_pair(tmp_path, kind)
        (tmp_path / ("a.img" if name == "a.hdr" else "a.hdr")).unlink()
        with pytest.raises(InputError, match=rf"{name}: expected its (voxels|header) beside it"):
            load_volume(tmp_path / name)

    def test_voxels_that_are_cut_off(self, kind: Any, name: str, tmp_path: Path) -> None:
        save_pair(tmp_path, kind)
        (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:1000])
        with pytest.raises(InputError, match=r"a\.img: file is truncated or damaged"):
            load_volume(tmp_path / name)


def test_a_pair_tells_its_geometry_and_analyze_does_not(tmp_path: Path) -> None:
    save_pair(tmp_path)
    pair = load_volume(tmp_path / "a.hdr")
    assert pair.warnings == ()
    labels = nib.Nifti1Image.from_bytes(encode_labels(np.zeros(pair.shape, np.uint8, order="F"), pair))
    np.testing.assert_allclose(labels.affine, TURNED, atol=1e-5)
    save_pair(tmp_path, nib.AnalyzeImage)
    analyze = load_volume(tmp_path / "a.hdr")
    assert analyze.warnings[0].startswith("an Analyze file tells no orientation")
    labels = nib.Nifti1Image.from_bytes(encode_labels(np.zeros(analyze.shape, np.uint8, order="F"), analyze))
    np.testing.assert_allclose(labels.affine, analyze.affine, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (nib.Nifti1Pair, {"vox_offset": -1}, "vox_offset: expected 0 or a whole number"),
        (nib.Nifti1Pair, {"vox_offset": 1e9}, "vox_offset: expected 0 or a whole number"),
        (nib.Nifti1Pair, {"sizeof_hdr": 1}, "sizeof_hdr: expected 348"),
        (nib.Nifti1Pair, {"dim": 2000}, "dim\\[0\\]"),
        (nib.AnalyzeImage, {"sizeof_hdr": 1}, "expected the header of a NIfTI pair or of an Analyze"),
        (nib.AnalyzeImage, {"vox_offset": np.nan}, "vox_offset: expected 0"),
        (nib.AnalyzeImage, {"pixdim": np.nan}, "pixdim: expected the size"),
        (nib.AnalyzeImage, {"pixdim": 0}, "pixdim: expected the size"),
        (nib.AnalyzeImage, {"pixdim": 90}, "pixdim: expected voxels of"),
        (nib.AnalyzeImage, {"datatype": 128}, "datatype: expected integer"),
        (nib.AnalyzeImage, {"orient": b"\2"}, "orient: expected axial"),
    ],
)
def test_bad_headers_are_refused_in_one_line(kind: Any, fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_pair(tmp_path, kind)
    expected = tmp_path / "bad"
    expected.mkdir()
    with pytest.raises(InputError, match=rf"a\.hdr: .*{message}") as caught:
        _save_bad(expected, kind, fields)
    assert "\n" not in str(caught.value)


def _save_bad(folder: Path, kind: Any, fields: dict[str, Any]) -> None:
    try:
        save_pair(folder, kind, **fields)
    except Exception as error:  # nibabel itself need not read it
        assert (folder / "a.hdr").is_file(), error  # noqa: PT017
    load_volume(folder / "a.img")


def test_what_has_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"")
    save_pair(tmp_path)
    (tmp_path / "a.hdr").rename(tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: expected a NIfTI image .*got the header of an image whose voxels"):
        load_volume(tmp_path / "a.nii")
