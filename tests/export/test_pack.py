"""What is packed is what a bundle's reader takes; a bundle whose networks are taken over is read as strictly."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mixpriv.export.checkpoint import load_initial
from mixpriv.export.pack import pack

from mixpriv.bundle import load_bundle
from mixpriv.errors import InputError
from mixpriv.training.config import load_config


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
