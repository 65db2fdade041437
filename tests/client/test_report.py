from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from mixpriv.atomic import check_outputs
from mixpriv.bundle import Bundle
from mixpriv.client.figure import RIM_MM, _enlarge, draw_picture, with_rim
from mixpriv.client.pipeline import Pipeline
from mixpriv.client.segment import segment
from mixpriv.client.segmentation import Segmentation
from mixpriv.client.table import class_volumes, encode_table
from mixpriv.client.wire_record import save_wire, wire_files
from mixpriv.errors import InputError, OutputError
from mixpriv.labels import Labelling
from mixpriv.protection.modes import Mixup
from tests.support.phantom import brain_scan
from tests.support.pipelines import using


@pytest.fixture
def result(pipeline: Pipeline) -> Segmentation:
    return segment(brain_scan()[0], using(pipeline, Mixup(references=2)))


class TestVolumes:
    def test_are_counted_without_the_background(self, bundle: Bundle) -> None:
        labels = np.array([[[0, 1, 1, 2]]], np.uint8)
        known = replace(bundle, classes=("background", "white matter", "grey matter", "none"))
        volumes = class_volumes(labels, 0.5, Labelling.of(known), {2: ("score", "volume")})
        assert [(v.index, v.name, v.voxels, v.volume_ml) for v in volumes] == [
            (1, "white matter", 2, 1.0),
            (2, "grey matter", 1, 0.5),
            (3, "none", 0, 0.0),
        ]
        assert encode_table(volumes).decode() == (
            "index\tname\tabbreviation\tcolor\tvoxels\tvolume_ml\tflags\n"
            "1\twhite matter\tn/a\t#f0d5a0\t2\t1.000\tn/a\n"
            "2\tgrey matter\tn/a\t#d26962\t1\t0.500\tscore,volume\n"
            "3\tnone\tn/a\t#82bc6c\t0\t0.000\tn/a\n"
        )


class TestWire:
    def test_is_what_was_sent_and_received_and_no_more(
        self, result: Segmentation, pipeline: Pipeline, bundle: Bundle, tmp_path: Path
    ) -> None:
        folder = tmp_path / "wire"
        folder.mkdir()
        save_wire(folder, result.exchanges, bundle, "host:1")
        files = wire_files(folder, 2)
        assert {p.name for p in folder.iterdir()} == {"request.json", *(p.name for pair in files for p in pair)}
        for exchange, (mixture, answer) in zip(result.exchanges, files, strict=True):
            np.testing.assert_array_equal(nib.load(mixture).get_fdata(), exchange.sent[0])
            np.testing.assert_array_equal(np.moveaxis(np.asarray(nib.load(answer).dataobj), -1, 0), exchange.received)
            np.testing.assert_array_equal(nib.load(mixture).affine, np.diag([3, 3, 3, 1]))
        request = json.loads((folder / "request.json").read_text())
        assert set(request) == {"server", "model_name", "model_version", "requests"}
        sent = request["requests"][1]["sent"]
        assert sent["sha256"] == hashlib.sha256(result.exchanges[1].sent.tobytes()).hexdigest()
        assert (sent["name"], sent["datatype"], sent["shape"]) == ("mixture", "FP16", [1, 1, *bundle.grid_shape])


class TestPicture:
    def test_has_three_planes_of_three_things_and_every_class(self, result: Segmentation, bundle: Bundle) -> None:
        picture = Image.open(io.BytesIO(draw_picture(replace(result, server="host:1"))))
        assert picture.format == "PNG"
        width_mm, length_mm, height_mm = np.array(bundle.grid_shape) * result.conformed.grid.spacing_mm
        assert picture.width > 3 * 2 * max(width_mm, length_mm)
        assert picture.height > 2 * (length_mm + 2 * height_mm)
        pixels = np.asarray(picture).astype(int)
        third = picture.width // 3
        coloured = [np.ptp(pixels[:, n * third : (n + 1) * third], axis=2) > 30 for n in range(3)]
        body = slice(60, round(2 * length_mm))
        assert 0 < coloured[0][body].mean() < 0.02  # the line around the mask
        assert not coloured[1][body].any()
        assert coloured[2][body].mean() > 0.1

    def test_shows_no_more_of_a_head_than_the_brain_with_a_rim(self, result: Segmentation) -> None:
        target = result.conformed
        bright = np.float32(target.intensity_ranges[0][1])
        head = replace(target, images=np.where(target.mask == 0, bright, target.images))
        cut, whole = (
            np.asarray(Image.open(io.BytesIO(draw_picture(replace(result, conformed=head), identifiers=shown))), int)
            for shown in (False, True)
        )
        near = with_rim(target.mask != 0, target.grid.spacing_mm)
        assert RIM_MM == 8
        assert not near.all()
        assert (cut != whole).any()
        assert cut.sum() < 0.8 * whole.sum()

    def test_axes_run_to_the_right_and_up(self) -> None:
        plane = np.zeros((20, 30), np.float32)
        plane[15:, 20:] = 1.0  # at the end of both axes
        drawn = _enlarge(plane, (40, 90))
        assert drawn.shape == (90, 40)
        assert drawn[:25, 32:].min() > 0.9
        assert drawn[35:].max() == drawn[:, :25].max() == 0


class TestOutputs:
    def test_existing_files_need_force(self, tmp_path: Path) -> None:
        (tmp_path / "a.nii").touch()
        with pytest.raises(InputError, match=r"a\.nii: output exists; give --force to overwrite it"):
            check_outputs([tmp_path / "b.nii", tmp_path / "a.nii"], force=False)
        check_outputs([tmp_path / "a.nii"], force=True)

    @pytest.mark.parametrize("made", [False, True])
    def test_a_place_that_takes_no_file(self, made: bool, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written, its folder does not exist"):
            check_outputs([tmp_path / "file" / "a.nii"], force=True, made=made)
        with pytest.raises(OutputError, match="expected a file name for the output, got a folder"):
            check_outputs([tmp_path], force=True, made=made)

    def test_a_folder_that_will_be_made(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "newer" / "a.nii"
        check_outputs([path], force=False, made=True)
        with pytest.raises(OutputError, match="its folder does not exist"):
            check_outputs([path], force=False)
