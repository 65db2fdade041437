"""A scan that the bundle is not for stays on this machine, or its user is warned."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixpriv.bundle import Bundle, Limit
from mixpriv.cli.client.main import main
from mixpriv.client.figure import draw_picture
from mixpriv.client.ledger import Ledger
from mixpriv.client.pipeline import Pipeline
from mixpriv.client.segment import segment
from mixpriv.errors import UnfitScanError
from mixpriv.quality.before import scan_checker
from tests.support.phantom import brain_scan, write_scan
from tests.support.pipelines import Elsewhere

THIN = {"resolution": Limit(warn_above=1.0, refuse_above=2.0)}


@pytest.fixture
def strict(pipeline: Pipeline, bundle: Bundle) -> Pipeline:
    """Takes no voxels of 3 mm, which the phantom has."""
    return replace(pipeline, check=scan_checker(replace(bundle, quality=THIN)))


def test_nothing_is_sent_of_a_scan_that_fails(strict: Pipeline, home: Path) -> None:
    elsewhere = Elsewhere(strict.segmenter)
    remote = replace(strict, segmenter=elsewhere)
    with pytest.raises(UnfitScanError, match=r"phantom: not sent: largest .*: 3 mm, .* 2 mm") as raised:
        segment(brain_scan()[0], remote)
    assert [check.name for check in raised.value.checks] == ["resolution"]
    assert elsewhere.seen == []
    assert Ledger().entries() == []


def test_it_is_sent_if_the_user_names_the_check(strict: Pipeline, home: Path) -> None:
    elsewhere = Elsewhere(strict.segmenter)
    result = segment(brain_scan()[0], replace(strict, segmenter=elsewhere, send_anyway=("resolution",)))
    assert len(elsewhere.seen) == 1
    assert [check.outcome for check in result.checks] == ["refuse"]
    assert "largest distance of voxels: 3 mm" in result.warnings[0]


def test_on_this_machine_it_is_a_warning(strict: Pipeline) -> None:
    result = segment(brain_scan()[0], strict)
    assert [check.outcome for check in result.checks] == ["refuse"]
    assert result.warnings == (result.checks[0].words,)


def test_the_picture_names_what_failed(strict: Pipeline, pipeline: Pipeline) -> None:
    plain, told = (Image.open(io.BytesIO(draw_picture(segment(brain_scan()[0], p)))) for p in (pipeline, strict))
    assert told.height == plain.height + 30
    assert np.asarray(told)[plain.height - 20 :].any()


def test_the_command_tells_of_every_check(
    bundle: Bundle, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((bundle.directory / "bundle.json").read_text())
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in bundle.directory.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    limits = {"resolution": {"warn_above": 2.0}, "size": {"refuse_below": 700}}
    (folder / "bundle.json").write_text(json.dumps(record | {"quality": limits}))
    scan = write_scan(tmp_path / "scan.nii.gz")
    assert main(["segment", str(scan), "--bundle", str(folder), "--json"]) == 0
    printed = capsys.readouterr()
    (result,) = json.loads(printed.out)["scans"]
    assert [(check["name"], check["outcome"], check["limit"]) for check in result["checks"]] == [
        ("resolution", "warn", 2.0),
        ("size", "pass", 700.0),
    ]
    assert printed.err.count("warning: ") == 1
    assert "largest distance of voxels: 3 mm, expected at most 2 mm" in printed.err
