"""A bundle whose record or unmixer is not of this version: one line that names it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixpriv.bundle import load_bundle
from mixpriv.client.proxy import Unmixer
from mixpriv.errors import InputError
from tests.toybundle import write_toy_bundle


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 1}, "schema 1, expected 2"),
        ({"unmixer_sharpness": None}, "field missing or of the wrong kind: "),
        ({"unmixer_sharpness": float("nan")}, "field missing or of the wrong kind: unmixer_sharpness must be above 0"),
        (
            {"unmixer_sharpness": 1e300},
            "field missing or of the wrong kind: unmixer_sharpness must be above 0, at most 1e",
        ),
        ({"unmixer_sharpness": -1}, "field missing or of the wrong kind: unmixer_sharpness must be above 0"),
        ({"unmixer_sees": "all"}, "field missing or of the wrong kind: unmixer_sees 'all'"),
        ({"grid_shape": [64, 80]}, "field missing or of the wrong kind: "),
    ],
)
def test_a_record_that_does_not_fit(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_toy_bundle(tmp_path).directory / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {re.escape(message)}"):
        load_bundle(tmp_path)


def test_an_unmixer_of_another_bundle_is_found_before_anything_is_sent(tmp_path: Path) -> None:
    bundle = replace(write_toy_bundle(tmp_path), classes=("background", "brain"))
    with pytest.raises(InputError, match=r"^unmixer_input: "):
        Unmixer.of(bundle)


def test_an_unmixer_that_answers_something_else() -> None:
    unmixer = Unmixer(lambda **_: {"correction": np.zeros((1, 24, 2, 2, 2), np.float32)}, 2, 5.0)
    with pytest.raises(InputError, match=r"^unmixer: expected a correction of \(16, 2, 2, 2\), got \(24, 2, 2, 2\)$"):
        unmixer.alone(np.zeros((1, 4, 4, 4), np.float16))


def test_an_unmixer_of_an_earlier_bundle() -> None:
    unmixer = Unmixer(lambda **_: {"probabilities": np.zeros((1, 2, 4, 4, 4), np.float32)}, 2, 5.0)
    labels = np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(InputError, match=r"^unmixer: expected a network that answers correction, got probabilities$"):
        unmixer(labels[None], labels, 0.5, np.zeros((1, 4, 4, 4), np.float16))
