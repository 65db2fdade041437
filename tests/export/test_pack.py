"""What is packed is what a bundle's reader takes; a bundle whose networks are taken over is read as strictly."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mixpriv.export.checkpoint import load_initial
from mixpriv.export.pack import pack
from mixpriv.export.parity import PARITY

from mixpriv.bundle import load_bundle
from mixpriv.errors import InputError
from mixpriv.protection.unmixing import LocalNetwork, Unmixer
from mixpriv.training.config import TrainingConfig, load_config, parse_config
from mixpriv.training.joint import JointModel
from mixpriv.training.networks import Alone


class TestPack:
    @pytest.mark.parametrize(
        ("said", "version", "message"),
        [
            ({}, "../1.0", "config hippocampus: bundle.version: expected a version such as 1.0.0, got '../1.0'"),
            ({"weight_range": [1, 1]}, "1.0", "bundle.weight_range: expected a number from 0.01 to 0.9, got 1"),
            ({"colour": "red"}, "1.0", "config hippocampus: bundle.colour: unknown field"),
        ],
    )
    def test_says_at_once_what_no_reader_takes(
        self, said: Mapping[str, Any], version: str, message: str, tmp_path: Path
    ) -> None:
        config = load_config("hippocampus")
        config = replace(config, raw={**config.raw, "bundle": {**config.raw["bundle"], **said}})
        with pytest.raises(InputError, match=re.escape(message)):
            pack(config, tmp_path / "run", None, tmp_path / "bundle", version, tmp_path)
        assert not (tmp_path / "bundle").exists()


class TestParts:
    @pytest.mark.filterwarnings("ignore")
    def test_an_unmixer_of_labels_alone_and_a_network_of_its_own_for_mode_local(self, tmp_path: Path) -> None:
        config = self.labels_alone()
        for name, joint in (("run", config.segmenter), ("local", config.local)):
            (tmp_path / name).mkdir()
            torch.manual_seed(0)
            torch.save(JointModel.of(joint).state_dict(), tmp_path / name / "averaged.pt")
            (tmp_path / name / "log.jsonl").write_text(json.dumps({"total_steps": 7}) + "\n")
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle" / "extractor.onnx").write_text("of an earlier call")
        with pytest.raises(InputError, match=r"reference\.npz"):
            pack(config, tmp_path / "run", None, tmp_path / "bundle", "2.0.0", local=tmp_path / "local")
        assert (tmp_path / "bundle" / "extractor.onnx").exists()  # what was there stays until all can be written
        shutil.copyfile(load_bundle("hippocampus").reference_path, tmp_path / "run" / "reference.npz")
        folder = pack(config, tmp_path / "run", None, tmp_path / "bundle", "2.0.0", local=tmp_path / "local")
        bundle = load_bundle(folder)
        assert bundle.files.keys() == {"segmenter.onnx", "unmixer.onnx", "local.onnx", "reference.npz"}
        assert (bundle.unmixer_sees_target, bundle.unmixer_alone, bundle.has_local) == (False, False, True)
        assert bundle.extra[PARITY].keys() == {"segmenter", "unmixer", "local"}
        assert bundle.extra["multiply_adds"].keys() == {"segmenter", "unmixer", "local", "voxels"}
        assert bundle.extra["trained"]["local_steps"] == 7
        Unmixer.of(bundle)
        image = np.random.default_rng(0).random((1, *bundle.grid_shape), np.float32).astype(np.float16)
        model = JointModel.of(config.local)
        load_initial(tmp_path / "local", "local").load_into(model)
        with torch.no_grad():
            expected = Alone(model.unmixer)(torch.from_numpy(image)[None].float()).softmax(1)[0].numpy()
        np.testing.assert_allclose(LocalNetwork.of(bundle)(image), expected, atol=0.05)  # may be in bfloat16

    @staticmethod
    def labels_alone() -> TrainingConfig:
        """The crops' config with a small S, a D that sees labels alone, and another network for mode local."""
        raw = load_config("hippocampus").raw
        said = {name: value for name, value in raw["bundle"].items() if name != "shielded"}
        small = {"unmixer_sees": "labels", "filters": [8, 16, 16], "unmixer_filters": [4, 8, 8], "crop": [32, 32, 32]}
        local = {"filters": [8, 12, 16], "steps": 9, "learning_rate": 1e-3}
        return parse_config({**raw, "bundle": said, "segmenter": {**raw["segmenter"], **small}, "local": local})

    @pytest.mark.filterwarnings("ignore")
    def test_a_bundle_may_be_packed_in_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As for a new version: its own networks and references are taken over before they are replaced."""
        config, before = load_config("hippocampus"), load_bundle("hippocampus")
        said = {name: value for name, value in config.raw["bundle"].items() if name != "shielded"}
        config = replace(config, raw={**config.raw, "bundle": said})
        folder = Path(shutil.copytree(before.directory, tmp_path / "bundle"))
        monkeypatch.setattr("mixpriv.export.pack.measure_parity", lambda *arguments: {})
        after = load_bundle(pack(config, folder, None, folder, "9.0.0"))
        assert after.version == "9.0.0"
        assert after.reference_path.read_bytes() == before.reference_path.read_bytes()

    def test_mode_local_s_network_has_a_size_of_its_own(self) -> None:
        config = self.labels_alone()
        assert config.local.networks.unmixer_filters == (8, 12, 16)
        assert (config.local.alone, config.local.schedule.steps) == (True, 9)
        assert config.control.networks.unmixer_filters == (4, 8, 8)
        shipped = load_config("hippocampus")
        assert shipped.local == shipped.control

    def test_an_unmixer_that_can_do_both_takes_no_other(self, tmp_path: Path) -> None:
        config = replace(load_config("hippocampus"), raw=self.labels_alone().raw)
        with pytest.raises(InputError, match=r"its unmixer does without an answer: expected no local run"):
            pack(config, tmp_path, None, tmp_path / "bundle", "1.0.0", local=tmp_path)


class TestInitial:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"trained": {}}, "trained.steps: missing"),
            ({"trained": 5}, "trained: expected an object, got 5"),
            ({"trained": {"steps": "x"}}, "trained.steps: expected a whole number"),
            ({"unmixer_sharpness": -1}, "unmixer_sharpness: expected a number above 0"),
        ],
    )
    def test_a_record_that_does_not_fit_is_named(self, change: dict, message: str, tmp_path: Path) -> None:
        folder = shutil.copytree(load_bundle("hippocampus").directory, tmp_path / "bundle")
        path = folder / "bundle.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(InputError, match=re.escape(f"{path}: field missing or of the wrong kind: {message}")):
            load_initial(folder, "segmenter")
