from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.cli.research.main import main
from mixpriv.errors import InputError
from mixpriv.evaluation.extraction import compare, read_cases
from tests.support.phantom import brain_scan

HEAD = "source\tname\tscan\treference\treference_is\tother\tother_s\n"


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """A head whose brain another tool finds but for a half, and one without a brain."""
    scan, truth = brain_scan()
    half = (truth > 0).copy()
    half[: half.shape[0] // 2] = False
    images = {"head": scan.voxels, "noise": np.random.default_rng(0).normal(500, 50, scan.shape), "half": half}
    for name, voxels in {**images, "truth": truth > 0}.items():
        nib.save(nib.Nifti1Image(np.asarray(voxels, np.float32), scan.affine), tmp_path / f"{name}.nii.gz")
    lines = [
        "toy\tone\thead.nii.gz\ttruth.nii.gz\tlabels\thalf.nii.gz\t2.5",
        "toy\ttwo\tnoise.nii.gz\ttruth.nii.gz\tlabels\t\t",
    ]
    (tmp_path / "heads.tsv").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


class TestPage:
    def test_a_page_of_heads(self, heads: Path, bundle: Bundle) -> None:
        page = heads / "page.md"
        command = ["extraction", str(heads / "heads.tsv"), "--data", str(heads), "--bundle", str(bundle.directory)]
        assert main([*command, "--other", "half", "-o", str(page)]) == 0
        rows = {line.split(" | ")[1]: line.split(" | ") for line in page.read_text().splitlines() if "| toy |" in line}
        assert rows["labels"][2:4] == ["2", "1"], "two heads, one refused"
        missed, far = rows["one"][2:4]
        assert float(missed.removesuffix(" %")) < 2
        assert far == "0.0 ml"
        assert float(rows["one"][5].removesuffix(" %")) == pytest.approx(50, abs=5)
        assert "no brain found" in rows["two"][-1]

    def test_other_columns_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "heads.tsv").write_text("scan\tmask\n", encoding="utf-8")
        with pytest.raises(InputError, match="expected the columns source, name, scan"):
            read_cases(tmp_path / "heads.tsv", tmp_path)


def test_what_lies_far_outside_is_counted() -> None:
    reference = np.zeros((40, 10, 10), bool)
    reference[:10] = True
    mask = reference.copy()
    mask[30] = True
    found = compare(mask, reference, np.array([1.0, 2.0, 2.0]))
    assert found.missed_percent == 0
    assert found.beyond_ml == pytest.approx(100 * 4 / 1000)
    assert found.farthest_mm == pytest.approx(21)
