"""All runtimes on a real scan, where it is given: MIXPRIV_DATA names a BIDS folder of T1-weighted heads.

The Dice is measured by bench/parity.py, which also takes crops.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("monai", reason="MONAI is not installed")

from mixpriv.export.comparison import Comparison
from mixpriv.export.parity import REFERENCE, runtimes

from mixpriv.bundle import load_bundle
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from mixpriv.imaging.volume import load_volume
from mixpriv.protection.mixing import mix
from mixpriv.timing import Timings
from mixpriv.training.config import load_config

SCANS = sorted(Path(os.environ.get("MIXPRIV_DATA", "absent")).glob("sub-*/**/*_T1w.nii.gz"))


@pytest.mark.skipif(not SCANS, reason="MIXPRIV_DATA names no BIDS folder with T1-weighted scans")
def test_all_runtimes_answer_alike() -> None:
    bundle = load_bundle("brain-t1")
    target = load_preprocessor(bundle)(load_volume(SCANS[0]), Timings())
    image = np.ascontiguousarray(mix(target, None, 1.0)[None, None])
    answers = {name: run(image) for name, run in runtimes(bundle, load_config("brain-t1")).items()}
    for name, answer in answers.items():
        comparison = Comparison.of(answer, answers[REFERENCE], 1.0)
        assert comparison.within_one_level >= (0.999 if "float32" in name else 0.98), (name, comparison)
