from __future__ import annotations

import numpy as np
import pytest

from tests.fuzz import formats

pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")


def test_some_images_are_read_or_refused() -> None:
    with formats.target() as feed:
        for number in range(100):
            feed(formats.example(np.random.default_rng([0, number])))
