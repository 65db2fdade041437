"""A bundle is somebody else's file: one that does not fit is refused in one line, before it has changed anything."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mixpriv.bundle import Bundle, load_bundle, shipped_bundles
from mixpriv.bundle_fields import FIELDS, SIDES, check_field
from mixpriv.bundle_files import require_side
from mixpriv.cli.client.main import main
from mixpriv.errors import InputError
from mixpriv.protection.reference import ReferenceModel
from mixpriv.protection.unmixing import LocalNetwork, Unmixer
from mixpriv.schema import FieldError
from tests.support.toybundle import expected_probabilities, write_toy_bundle, write_toy_crop_bundle

THREE = ("segmenter.onnx", "unmixer.onnx", "reference.npz")
CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"schema": 1}, "schema 1, expected 2"),
    ({"schema": None}, "schema None, expected 2"),
    ({"name": "../../x"}, "name: expected a name of at most 64 letters, digits, - and _"),
    ({"name": ".."}, "name: expected a name"),
    ({"name": "a/b"}, "name: expected a name"),
    ({"name": "a\n"}, "name: expected text on one line"),
    ({"name": "\x1b[2Ja"}, "name: expected text on one line"),
    ({"name": "x" * 65}, "name: expected a name"),
    ({"name": 5}, "name: expected a name"),
    ({"version": "1.0/../.."}, "version: expected a version such as 1.0.0"),
    ({"version": 1.0}, "version: expected a version"),
    ({"fingerprint": "xyz"}, "fingerprint: expected 64 hex digits"),
    ({"fingerprint": "A" * 64}, "fingerprint: expected 64 hex digits"),
    ({"fingerprint": None}, "fingerprint: expected 64 hex digits"),
    ({"classes": ["background"]}, "classes: expected a list of 2 to 255 values"),
    ({"classes": [f"c{i}" for i in range(256)]}, "classes: expected a list of 2 to 255 values"),
    ({"classes": ["a", "a"]}, "classes: expected values that all differ"),
    ({"classes": "abc"}, "classes: expected a list"),
    ({"classes": ["a", "b\x1b]0;x\x07"]}, "classes: expected text on one line"),
    ({"classes": ["a", "=HYPERLINK(1)"]}, "classes: expected a name that begins with a letter or digit"),
    ({"classes": ["a", "x" * 65]}, "classes: expected a name of 1 to 64"),
    ({"classes": ["a", 5]}, "classes: expected a name"),
    ({"modalities": []}, "modalities: expected a list of 1 to 16 values"),
    ({"modalities": ["T1\u202e"]}, "modalities: expected text on one line"),
    ({"grid_shape": [64, 80]}, "grid_shape: expected a list of 3 values"),
    ({"grid_shape": [64, 80, 64.0]}, "grid_shape: expected a whole number from 2 to 512"),
    ({"grid_shape": [64, 80, True]}, "grid_shape: expected a whole number"),
    ({"grid_shape": [64, 80, 65]}, "grid_shape: expected multiples"),
    ({"grid_shape": [1024, 1024, 1024]}, "grid_shape: expected a whole number from 2 to 512"),
    ({"grid_shape": [512, 512, 512]}, "grid_shape: expected at most 16777216 voxels"),
    ({"grid_shape": [10**400, 16, 16]}, "grid_shape: expected a whole number"),
    ({"spacing_mm": 0}, "spacing_mm: expected a number from 0.1 to 10"),
    ({"spacing_mm": "1"}, "spacing_mm: expected a number"),
    ({"multiple": 15}, "grid_shape: expected multiples of an even number"),
    ({"multiple": 0}, "multiple: expected a whole number from 2 to 64"),
    ({"weight_range": [1, 1]}, "weight_range: expected a number from 0.01 to 0.9"),
    ({"weight_range": [0.5, 0.95]}, "weight_range: expected a number from 0.01 to 0.9"),
    ({"weight_range": [0, 0.5]}, "weight_range: expected a number from 0.01 to 0.9"),
    ({"weight_range": [-0.5, 0.5]}, "weight_range: expected a number"),
    ({"weight_range": [0.7, 0.3]}, "weight_range: expected two numbers in rising order"),
    ({"weight_range": [0.3, float("nan")]}, "weight_range: expected a finite number, got nan"),
    ({"weight_range": [0.3]}, "weight_range: expected a list of 2 values"),
    ({"weight_range": ["0.3", "0.7"]}, "weight_range: expected a number"),
    ({"shielded": {"weight_range": [1, 1], "warp_mm": 4}}, "shielded.weight_range: expected a number from 0.01 to 0.9"),
    ({"shielded": {"weight_range": [0.1, 0.2], "warp_mm": 0}}, "shielded.warp_mm: expected a number above 0 to 8"),
    ({"shielded": {"weight_range": [0.1, 0.2], "warp_mm": 9}}, "shielded.warp_mm: expected a number above 0 to 8"),
    ({"shielded": {"weight_range": [0.1, 0.2]}}, "shielded.warp_mm: missing"),
    (
        {"shielded": {"weight_range": [0.1, 0.2], "warp_mm": 4, "strangers": {"mean": 0.2, "std": 0.1}}},
        "shielded.risk_limit: missing",
    ),
    (
        {"shielded": {"weight_range": [0.1, 0.2], "warp_mm": 4, "strangers": {"mean": 0.2, "std": 0}, "risk_limit": 2}},
        "shielded.strangers.std: expected a number from 1e-06 to 1",
    ),
    (
        {"shielded": {"weight_range": [0.1, 0.2], "warp_mm": 4, "strangers": {"mean": 1e9, "std": 1}, "risk_limit": 2}},
        "shielded.strangers.mean: expected a number from -1 to 1",
    ),
    ({"shielded": {"weight_range": [0.1, 0.2], "warp_mm": 4, "plain": True}}, "shielded.plain: unknown field"),
    ({"shielded": []}, "shielded: expected an object"),
    ({"unmixer_sharpness": None}, "unmixer_sharpness: expected a number above 0 to 1e+06"),
    ({"unmixer_sharpness": float("nan")}, "unmixer_sharpness: expected a finite number, got nan"),
    ({"unmixer_sharpness": 1e300}, "unmixer_sharpness: expected a number above 0"),
    ({"unmixer_sharpness": -1}, "unmixer_sharpness: expected a number above 0"),
    ({"unmixer_sees": "all"}, "unmixer_sees: expected labels or target, got 'all'"),
    ({"unmixer_alone": "yes"}, "unmixer_alone: expected true or false"),
    ({"alignment": {"std_mm": [30, 30, 30]}}, "alignment.centre_voxel: missing"),
    ({"alignment": {"std_mm": [0, 30, 30], "centre_voxel": [1, 1, 1]}}, "alignment.std_mm: expected a number above 0"),
    ({"alignment": {"std_mm": [9, 9, 9], "centre_voxel": [64, 1, 1]}}, "alignment.centre_voxel: expected a voxel"),
    ({"alignment": None}, "alignment: expected an object"),
    ({"extractor_spacing_mm": 0.01}, "extractor_spacing_mm: expected a number from 1 to 10"),
    ({"licence": ""}, "licence: expected a name"),
    ({"config": {"region": [1]}}, "config.region: expected an object"),
    ({"config": {"region": {"held_out_every": 0}}}, "config.region.held_out_every: expected a whole number"),
    ({"trained": {"steps": "x"}}, "trained.steps: expected a whole number"),
    ({"multiply_adds": {"segmenter": 0}}, "multiply_adds.segmenter: expected a whole number"),
    ({"labels": [[[0]]]}, "labels: expected a list of 2 to 255 values"),
    ({"labels": [[[0]]] * 6}, "labels: expected numbers that all differ"),
    ({"labels": [[[n]] for n in range(1, 7)]}, "labels: expected numbers that all differ, 0 alone for the background"),
    ({"labels": [[[n]] for n in range(5)]}, "labels: expected one for each of the 6 classes"),
    ({"labels": [[[n]] for n in (0, 1, 2, 3, 4, 256)]}, "labels: expected a whole number from 0 to 255"),
    ({"labels": [0, 1, 2, 3, 4, 5]}, "labels: expected a list of 1 to 2 values"),
    ({"labels": [[[0]], [[1], [2], [3]], [[4]], [[5]], [[6]], [[7]]]}, "labels: expected a list of 1 to 2 values"),
    ({"tissues": {"classes": ["a", "b"]}}, "tissues.of: missing"),
    ({"tissues": {"classes": ["a", "b"], "of": [0, 1]}}, "tissues.of: expected a tissue for each class"),
    ({"tissues": {"classes": ["a", "b", "c"], "of": [0, 1, 1, 1, 1, 1]}}, "tissues.of: expected a tissue for each"),
    ({"tissues": {"classes": ["a", "b"], "of": [0, 0, 1, 1, 1, 1]}}, "tissues.of: expected 0 for the background"),
    ({"tissues": {"classes": ["a", "b"], "of": [0, 1, 1, 1, 1, 7]}}, "tissues.of: expected a tissue for each class"),
    ({"tissues": {"classes": ["a", "b"], "of": [0, 1, 1, 1, 1, 1], "colors": ["#0000ff"]}}, "tissues.colors: expected"),
    (
        {"tissues": {"classes": ["a", "b"], "of": [0, 1, 1, 1, 1, 1], "abbreviations": ["A", "B", "C"]}},
        "abbreviations: expected one for each of the 2 classes",
    ),
    ({"local": True}, "local: unknown field"),
    ({"unmixer_alone": True}, "unmixer_alone: expected false, since the unmixer does not see the scan"),
    ({"part": "both"}, "part: expected whole or client or server, got 'both'"),
    ({"part": "client"}, "files: missing, expected in a part of a bundle"),
    ({"files": {}}, "files.segmenter.onnx: missing"),
    ({"files": {"../x": "0" * 64}}, "files.../x: unknown field"),
    ({"files": dict.fromkeys(THREE, "0")}, "files.segmenter.onnx: expected 64 hex digits"),
    ({"files": dict.fromkeys(THREE, "0" * 64)}, "files: expected the fingerprint for segmenter.onnx"),
    (
        {"files": dict.fromkeys(THREE, "0" * 64), "fingerprint": "0" * 64},
        "files: expected extractor.onnx if and only if there is an extractor_spacing_mm",
    ),
    (
        {"files": dict.fromkeys((*THREE, "extractor.onnx", "local.onnx"), "0" * 64), "fingerprint": "0" * 64}
        | {"unmixer_alone": True, "unmixer_sees": "target"},
        "unmixer_alone: expected false beside local.onnx",
    ),
    ({"\x1b[31m": True}, "expected text on one line"),
]


IN_TOY = [name for name in SIDES if name != "quality.json"]
"""Files of the toy bundle, whose results nobody checks."""


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    return write_toy_bundle(tmp_path / "toy")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(folder: Path, message: str) -> None:
    """Whoever loads it gets one printable line; so does the user, with the exit code for bad input."""
    with pytest.raises(InputError, match=message) as found:
        load_bundle(folder)
    assert str(found.value).isprintable()


class TestRecord:
    @pytest.mark.parametrize(("change", "message"), CHANGES, ids=lambda value: str(value)[:40])
    def test_a_field_that_does_not_fit_is_named(self, toy: Bundle, change: dict[str, Any], message: str) -> None:
        path = toy.directory / "bundle.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        refused(toy.directory, f"^{re.escape(str(path))}: .*{re.escape(message)}")

    @pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.default is not None])
    def test_a_field_that_is_missing_is_named(self, toy: Bundle, name: str) -> None:
        path = toy.directory / "bundle.json"
        fields = json.loads(path.read_text())
        if fields.pop(name, None) is not None:
            path.write_text(json.dumps(fields))
            refused(toy.directory, f"{name}: missing|schema None")

    @pytest.mark.parametrize(
        "text", ["[]", "5", '"x"', "null", "{", "[" * 99_999, '{"schema": 2, "schema": 2}', " " * 2**19, '{"a": 1e999}']
    )
    def test_one_that_is_no_record(self, toy: Bundle, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        (toy.directory / "bundle.json").write_text(text)
        refused(toy.directory, r"bundle\.json: ")
        assert main(["info", "--bundle", str(toy.directory)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_numbers_are_those_that_keys_are_derived_from(self, toy: Bundle) -> None:
        # a whole number in the file must not become another text in what seeds are drawn for
        path = toy.directory / "bundle.json"
        shielded = {"weight_range": [0.1, 0.2], "warp_mm": 4}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"shielded": shielded}))
        bundle = load_bundle(toy.directory)
        assert f"{bundle.shielded.warp_mm} mm" == "4.0 mm"
        assert str(bundle.shielded.weight_range) == "(0.1, 0.2)"

    def test_what_is_only_said_may_be_anything(self, toy: Bundle) -> None:
        path = toy.directory / "bundle.json"
        notes = {"limits": ["a", 1], "config": {"x": {"y": 1.5}, "region": {"name": "z", "held_out_every": 5}}}
        path.write_text(json.dumps(json.loads(path.read_text()) | notes))
        assert load_bundle(toy.directory).extra == notes

    def test_one_field_by_itself(self) -> None:
        assert check_field("spacing_mm", 1) == 1.0
        with pytest.raises(FieldError, match=r"^other: unknown field"):
            check_field("other", 1)


class TestFolder:
    @pytest.mark.parametrize("name", ["", "nowhere", "a\0b", "x" * 5000, "../bundles/brain-t1", "\x1b[2J"])
    def test_no_bundle_is_found(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match=r"not found: expected a folder with bundle\.json or one of brain-t1"):
            load_bundle(name)

    @pytest.mark.parametrize("name", ["bundle.json", *SIDES])
    @pytest.mark.parametrize("kind", ["pipe", "link", "folder", "zeros"])
    def test_a_file_of_another_kind_is_named(self, toy: Bundle, name: str, kind: str, tmp_path: Path) -> None:
        path = toy.directory / name
        if path.exists():
            path.rename(tmp_path / name)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / name if kind == "link" else "/dev/zero")
        refused(toy.directory, f"{name}: expected a regular file inside the folder")

    def test_a_segmenter_that_is_too_large(self, toy: Bundle) -> None:
        with toy.segmenter_path.open("r+b") as file:
            file.truncate(2**32)  # sparse
        refused(toy.directory, r"segmenter\.onnx: expected at most 268435456 bytes, got 4294967296")


class TestFiles:
    """A record that names the files is kept to: none is another, too many or missing."""

    @pytest.fixture
    def named(self, tmp_path: Path) -> Bundle:
        return write_toy_bundle(tmp_path / "named", local=True)

    def test_all_are_there(self, named: Bundle) -> None:
        assert named.files == {name: digest(named.directory / name) for name in IN_TOY}
        assert named.part == "whole"
        assert named.has_local

    @pytest.mark.parametrize("name", [name for name in IN_TOY if name != "segmenter.onnx"])
    def test_another_is_named(self, named: Bundle, name: str) -> None:
        with (named.directory / name).open("ab") as file:
            file.write(b"x")
        refused(named.directory, f"{re.escape(name)}: expected the file that bundle.json names, got another")

    @pytest.mark.parametrize("name", IN_TOY)
    def test_a_missing_one_is_named(self, named: Bundle, name: str) -> None:
        (named.directory / name).unlink()
        refused(named.directory, f"{re.escape(name)}: is missing in the whole bundle")

    def test_one_too_many_is_named(self, named: Bundle) -> None:
        path = named.directory / "bundle.json"
        fields = json.loads(path.read_text())
        del fields["files"]["local.onnx"]
        path.write_text(json.dumps(fields))
        refused(named.directory, r"local\.onnx: expected no such file in the whole bundle")

    def test_what_is_the_other_side_s_is_named(self, named: Bundle) -> None:
        path = named.directory / "bundle.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"part": "client"}))
        refused(named.directory, r"segmenter\.onnx: expected no such file in the client's part")
        named.segmenter_path.unlink()
        assert load_bundle(named.directory).part == "client"
        with pytest.raises(InputError, match=r"this is the client's part, expected the server's part or the whole"):
            require_side(load_bundle(named.directory), "server")


class TestSegmenter:
    def test_another_than_the_recorded_one(self, toy: Bundle) -> None:
        toy.segmenter_path.write_bytes(toy.unmixer_path.read_bytes())
        refused(toy.directory, r"segmenter\.onnx: fingerprint differs from the one in bundle\.json")

    @pytest.mark.parametrize("name", ["unmixer.onnx", "extractor.onnx"])
    def test_another_network(self, toy: Bundle, name: str) -> None:
        self._replace(toy, (toy.directory / name).read_bytes())
        refused(toy.directory, r"segmenter\.onnx: expected mixture float16 of 1 channels and segmentation_mixture ")

    def test_another_number_of_classes(self, toy: Bundle) -> None:
        path = toy.directory / "bundle.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": ["a", "b"]}))
        refused(
            toy.directory, r"expected mixture .* uint8 of 1, of one size, got .*segmentation_mixture uint8 \[1, 5, "
        )

    def test_one_that_runs_for_ever(self, toy: Bundle) -> None:
        model = onnx.load(toy.segmenter_path)
        body = onnx.helper.make_graph([], "body", [], [])
        model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], [], body=body))
        self._replace(toy, model.SerializeToString())
        refused(toy.directory, r"segmenter\.onnx: not a readable ONNX network \(it has a graph inside an operator")

    @staticmethod
    def _replace(bundle: Bundle, data: bytes) -> None:
        bundle.segmenter_path.write_bytes(data)
        path = bundle.directory / "bundle.json"
        fields = json.loads(path.read_text()) | {"fingerprint": hashlib.sha256(data).hexdigest()}
        path.write_text(json.dumps(fields))


@pytest.mark.parametrize("name", shipped_bundles())
def test_what_ships_is_read_whole(name: str) -> None:
    bundle = load_bundle(name)
    ReferenceModel.of(bundle)
    assert bundle.extra["trained"]["steps"] > 0


class TestUnmixer:
    def test_of_another_bundle_is_found_before_anything_is_sent(self, toy: Bundle) -> None:
        with pytest.raises(InputError, match=r"^unmixer_input: "):
            Unmixer.of(replace(toy, classes=("background", "brain")))

    def test_that_answers_something_else(self) -> None:
        unmixer = Unmixer(lambda **_: {"correction": np.zeros((1, 24, 2, 2, 2), np.float32)}, 2, 5.0)
        labels = np.zeros((4, 4, 4), np.uint8)
        with pytest.raises(InputError, match=r"^unmixer: expected correction of \(16, 2, 2, 2\), got \(24, 2, 2, 2\)$"):
            unmixer(labels[None], labels, 0.5, np.zeros((1, 4, 4, 4), np.float16))

    def test_of_an_earlier_bundle(self) -> None:
        unmixer = Unmixer(lambda **_: {"probabilities": np.zeros((1, 2, 4, 4, 4), np.float32)}, 2, 5.0)
        labels = np.zeros((4, 4, 4), np.uint8)
        with pytest.raises(
            InputError, match=r"^unmixer: expected a network that answers correction, got probabilities$"
        ):
            unmixer(labels[None], labels, 0.5, np.zeros((1, 4, 4, 4), np.float16))


class TestLocal:
    """Mode local's network, of its own or the unmixer."""

    def test_it_segments_the_scan(self, tmp_path: Path) -> None:
        bundle = write_toy_bundle(tmp_path / "toy", local=True)
        image = np.random.default_rng(0).random((1, *bundle.grid_shape), np.float32).astype(np.float16)
        expected = expected_probabilities(image[None])[0]
        np.testing.assert_allclose(
            LocalNetwork.of(bundle)(image), expected, atol=0.1
        )  # bfloat16 where the processor has it

    def test_of_another_bundle(self, toy: Bundle, tmp_path: Path) -> None:
        other = replace(write_toy_bundle(tmp_path / "local", local=True), classes=("background", "brain"))
        with pytest.raises(
            InputError, match=r"^local network: expected logits of \(16, 8, 8, 8\), got \(48, 8, 8, 8\)$"
        ):
            LocalNetwork.of(other)
        shutil.copyfile(toy.unmixer_path, other.local_path)
        with pytest.raises(InputError, match=r"^network inputs: expected \['unmixer_input'\], got \['target'\]$"):
            LocalNetwork.of(other)

    def test_that_answers_something_else(self) -> None:
        network = LocalNetwork(lambda **_: {"correction": np.zeros((1, 16, 2, 2, 2), np.float32)}, 2)
        with pytest.raises(
            InputError, match=r"^local network: expected a network that answers logits, got correction$"
        ):
            network(np.zeros((1, 4, 4, 4), np.float16))


class TestExtractor:
    def test_one_with_another_answer_is_named(self, toy: Bundle) -> None:
        from mixpriv.imaging.preprocess.extraction import _find
        from mixpriv.imaging.resample import Grid

        grid = Grid((16, 16, 16), np.eye(4))
        image = np.random.default_rng(0).random((16, 16, 16), np.float32)
        for answer in ({"other": image[None, None]}, {"brain_probability": image[None]}):
            with pytest.raises(
                InputError, match=r"^extractor: expected brain_probability of \(1, 1, 16, 16, 16\), got "
            ):
                _find(image, grid, lambda answer=answer, **_: answer)


Arrays = dict[str, np.ndarray]


def put(name: str, value: Any) -> Callable[[Arrays], Any]:
    return lambda arrays: arrays.__setitem__(name, value)


MODELS: list[tuple[Callable[[Arrays], Any], str]] = [
    (put("extra", np.zeros(1)), "expected the arrays atlas, step, "),
    (put("../extra", np.zeros(1)), "expected the arrays atlas, step, "),
    (lambda arrays: arrays.pop("step"), "expected the arrays atlas, step, "),
    (put("atlas", np.array([{}], object)), "not an array of numbers"),
    (put("atlas", np.zeros((3, 32, 48, 32), np.float32)), "atlas.npy: expected u1 of 4 axes"),
    (put("atlas", np.zeros((3, 32, 48), np.uint8)), "atlas.npy: expected u1 of 4 axes"),
    (put("atlas", np.zeros((3, 32, 48, 32), np.uint8)), "atlas: expected probabilities that add up to 255"),
    (put("atlas", np.full((1, 32, 48, 32), 255, np.uint8)), "atlas: expected 2 to 128 classes"),
    (put("atlas", np.full((3, 9, 9, 9), 85, np.uint8)), "atlas: expected the grid in steps of 1.0"),
    (put("atlas", np.zeros((3, 0, 48, 32), np.uint8)), "atlas: expected 2 to 128 classes on a grid"),
    (put("step", np.array(np.nan)), "step.npy: a value that is no finite number"),
    (put("step", np.array(0.0)), "step: expected 0.25 to 16"),
    (put("step", np.array("x")), "step.npy: not an array of numbers"),
    (put("warp_mm", np.array(1e9)), "warp_mm: expected 0 to 20"),
    (put("tissue_of", np.array([0, 1], np.uint8)), "tissue_of: expected a value for each class"),
    (put("tissue_of", np.array([1, 2, 1], np.uint8)), "tissue_of: expected a value for each class, 0 first"),
    (put("tissue_of", np.array([0, 2, 6], np.uint8)), "not a reference model of this bundle"),
    (put("fold_rank", np.array([-1, -1, -1], np.int8)), "fold_rank: expected 0, 1, ... and -1"),
    (put("fold_rank", np.array([-1, 0, 5], np.int8)), "fold_rank: expected 0, 1, ... and -1"),
    (put("fold_rank", np.array([0, 0, 1], np.int8)), "fold_rank: expected one for each class, -1 first"),
    (put("intensity_range", np.zeros((3, 3), np.float32)), "intensity_range: expected two values for each class"),
    (put("intensity_range", np.full((3, 2), np.inf, np.float32)), "intensity_range.npy: a value that is no finite"),
    (put("intensity_range", np.float32([[1, 0]] * 3)), "intensity_range: expected the lower value first"),
    (put("intensity_range", np.full((3, 2), 1e30, np.float32)), "intensity_range: expected values from -10 to 10"),
    (put("further_ranges", np.zeros((1, 2, 2), np.float32)), "further_ranges: expected two values for each class"),
    (put("further_ranges", np.zeros((1, 3, 2), np.float32)), "not a reference model of this bundle"),
    (put("grid_shape", np.array([32, 48], np.int64)), "grid_shape: expected 3 sizes"),
    (put("grid_shape", np.array([2**40] * 3)), "grid_shape: expected 3 sizes from 2 to 512"),
    (put("spacing_mm", np.array(2.0)), "not a reference model of this bundle"),
]


class TestReferenceModel:
    @pytest.fixture
    def crop(self, tmp_path: Path) -> Bundle:
        return write_toy_crop_bundle(tmp_path)

    @pytest.fixture
    def arrays(self, crop: Bundle) -> Iterator[Arrays]:
        with np.load(crop.reference_path) as file:
            yield dict(file)

    @pytest.mark.parametrize(("change", "message"), MODELS)
    def test_an_array_that_does_not_fit(
        self, crop: Bundle, arrays: Arrays, change: Callable[[Arrays], Any], message: str
    ) -> None:
        change(arrays)
        np.savez_compressed(crop.reference_path, **arrays)
        self._refused(crop, message)

    def test_without_the_ranges_of_other_modalities(self, crop: Bundle, arrays: Arrays) -> None:
        del arrays["further_ranges"]
        np.savez(crop.reference_path, **arrays)
        assert ReferenceModel.of(crop).further_ranges == ()

    def test_an_atlas_in_the_other_order(self, crop: Bundle, arrays: Arrays) -> None:
        np.savez(crop.reference_path, **arrays | {"atlas": np.asfortranarray(arrays["atlas"])})
        np.testing.assert_array_equal(ReferenceModel.of(crop).atlas, arrays["atlas"])

    def test_a_member_twice(self, crop: Bundle) -> None:
        with zipfile.ZipFile(crop.reference_path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("step.npy", archive.read("step.npy"))
        self._refused(crop, "expected the arrays atlas, step, ")

    def test_a_size_that_is_not_there(self, crop: Bundle) -> None:
        """An array of 10^24 bytes, says the header."""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6, 10**6, 10**6)}
        )
        self._with_atlas(crop, header.getvalue(), zipfile.ZIP_STORED)
        self._refused(crop, "atlas.npy: more or fewer values than its shape says")

    def test_a_bomb(self, crop: Bundle) -> None:
        """300 MB of zeros in 300 KB."""
        self._with_atlas(crop, bytes(3 * 10**8), zipfile.ZIP_DEFLATED)
        self._refused(crop, "larger than 268435456 bytes when unpacked")

    def test_a_bomb_that_says_it_is_small(self, crop: Bundle) -> None:
        """The sizes in the directory are not those of the content."""
        self._with_atlas(crop, bytes(10**8), zipfile.ZIP_DEFLATED)
        data = crop.reference_path.read_bytes().replace((10**8).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
        crop.reference_path.write_bytes(data)
        self._refused(crop, "damaged")

    def test_a_million_members(self, crop: Bundle) -> None:
        with zipfile.ZipFile(crop.reference_path, "w") as archive:
            for index in range(3000):
                archive.writestr(f"{index}.npy", b"")
        self._refused(crop, "too many members")

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_another_compression(self, crop: Bundle, method: int) -> None:
        self._with_atlas(crop, b"x", method)
        self._refused(crop, "compressed in another way")

    def test_something_behind_the_end(self, crop: Bundle) -> None:
        crop.reference_path.write_bytes(crop.reference_path.read_bytes() + b"x")
        self._refused(crop, "not a zip file")

    @staticmethod
    def _with_atlas(bundle: Bundle, content: bytes, method: int) -> None:
        with zipfile.ZipFile(bundle.reference_path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(bundle.reference_path, "w", method) as archive:
            for name, data in (members | {"atlas.npy": content}).items():
                archive.writestr(name, data)

    @staticmethod
    def _refused(bundle: Bundle, message: str) -> None:
        with pytest.raises(InputError, match=f"npz: not a reference model .*{re.escape(message)}|{message}") as found:
            ReferenceModel.of(bundle)
        assert str(found.value).isprintable()
