"""The HTML report: it tells what happened, names nobody, shows no face, and loads nothing."""

from __future__ import annotations

import base64
import gzip
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mixpriv.bundle import load_bundle
from mixpriv.client.report import RIM_MM, encode_report
from mixpriv.client.segmentation import Segmentation
from mixpriv.imaging.volume import Volume
from mixpriv.labels import Labelling

pytest.importorskip("jinja2", reason="the extra 'report' is not installed")

NAME = "Jane_Roe_1950.nii.gz"


@pytest.fixture
def result() -> Segmentation:
    """A head whose face is bright, far from the brain."""
    bundle = load_bundle("brain-t1")
    voxels = np.random.default_rng(0).normal(100, 9, (60, 70, 50)).astype(np.float32)
    labels = np.zeros(voxels.shape, np.uint8, order="F")
    labels[20:40, 20:40, 20:40] = 1
    labels[25:35, 25:35, 25:35] = 5
    voxels[:, 60:] = 4000
    scan = Volume(np.asfortranarray(voxels), np.diag([-1.0, 1.0, 1.2, 1.0]), None, f"/data/{NAME}")
    return Segmentation(
        labels=labels, labelling=Labelling.of(bundle), bundle=bundle, scan=scan, probabilities=np.zeros(0, np.float32),
        conformed=None, brain_ml=1.0, server=None, exchanges=(), warnings=("a <warning>",),  # type: ignore[arg-type]
    )  # fmt: skip


def part(page: bytes, name: str) -> nib.Nifti1Image:
    found = re.search(rb'id="%s">([^<]*)</script>' % name.encode(), page)
    assert found
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(found[1])))


def test_it_names_nobody_unless_that_is_wanted(result: Segmentation) -> None:
    page = encode_report(result, "none", None)
    assert b"Jane" not in page
    assert b"Roe_" not in page
    assert NAME.encode() in encode_report(result, "none", None, identifiers=True)


def test_it_shows_no_face_unless_that_is_wanted(result: Segmentation) -> None:
    image, labels = (part(encode_report(result, "none", None), name) for name in ("image", "labels"))
    shown, known = np.asarray(image.dataobj) > 0, np.asarray(labels.dataobj) > 0
    assert ndimage.distance_transform_edt(~known, sampling=(1, 1, 1.2))[shown].max() <= RIM_MM
    assert image.shape[1] < 40
    whole = part(encode_report(result, "none", None, identifiers=True), "image")
    assert whole.shape == result.scan.shape


def test_it_says_that_a_crop_is_whole(result: Segmentation) -> None:
    crop = replace(result, bundle=load_bundle("hippocampus"))
    assert b"The whole image is shown." in encode_report(crop, "none", None)
    assert b"The whole image is shown." not in encode_report(result, "none", None)


def test_it_shows_no_face_where_there_is_no_label(result: Segmentation) -> None:
    empty = replace(result, labels=np.zeros_like(result.labels))
    assert not np.asarray(part(encode_report(empty, "none", None), "image").dataobj).any()


def test_labels_lie_where_they_are(result: Segmentation) -> None:
    labels = part(encode_report(result, "none", None), "labels")
    index = np.argwhere(np.asarray(labels.dataobj) == 5)
    places = nib.affines.apply_affine(labels.affine, index)
    expected = nib.affines.apply_affine(result.affine, np.argwhere(result.labels == 5))
    np.testing.assert_allclose(places[np.lexsort(places.T)], expected[np.lexsort(expected.T)], atol=1e-4)


def test_a_large_scan_makes_no_large_page(result: Segmentation) -> None:
    voxels = np.asfortranarray(np.random.default_rng(0).normal(size=(220, 210, 200)), np.float32)
    labels = np.ones(voxels.shape, np.uint8, order="F")
    large = replace(result, scan=Volume(voxels, np.eye(4), None, "scan"), labels=labels)
    assert len(encode_report(large, "none", None)) < 8 * 2**20


def test_it_tells_what_left_and_loads_nothing(result: Segmentation) -> None:
    page = encode_report(result, "none", None).decode()
    assert "<p>Nothing. The network ran on this machine.</p>" in page
    assert "a &lt;warning&gt;" in page
    assert re.search(r"white matter</td>\s*<td class=\"number\">7000</td>", page)
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


@pytest.mark.slow
def test_a_browser_shows_it(result: Segmentation, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    (tmp_path / "report.html").write_bytes(encode_report(result, "none", None))
    options = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader",
               "--enable-unsafe-swiftshader", "--virtual-time-budget=60000", f"--user-data-dir={tmp_path / 'profile'}",
               "--dump-dom"]  # fmt: skip
    command = [browser, *options, (tmp_path / "report.html").as_uri()]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert 'data-shown="yes"' in page
    assert 'id="place">Neurological convention' in page
