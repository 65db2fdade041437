"""More than 2**31 bytes, and more than 2**31 elements: no index may be of 32 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixpriv import kernels

SHAPE = (2, 33000, 33000)  # 2.18e9 voxels, mostly never touched
NEEDED_GB = 10.0


def free_gb() -> float:
    """Memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) / 2**20
    except (OSError, StopIteration):
        return 0.0


@pytest.mark.skipif(free_gb() < NEEDED_GB, reason=f"needs {NEEDED_GB:g} GB of free memory")
def test_images_beyond_31_bits() -> None:
    image = np.zeros(SHAPE, np.float32)
    image[-1, -1, -2:] = 1, 3
    matrix = np.eye(4)[:3].copy()
    matrix[:, 3] = np.array(SHAPE) - (1, 1, 1.5)
    flipped = image[::-1, ::-1, ::-1]
    assert kernels.resample(flipped, np.eye(4)[:3].copy(), (1, 1, 2)).tolist() == [[[3.0, 1.0]]]
    assert kernels.resample(image, matrix, (1, 1, 1)).tolist() == [[[2.0]]]
