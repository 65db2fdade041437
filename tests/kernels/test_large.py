"""More than 2**31 bytes, and more than 2**31 elements: no index may be of 32 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixpriv import kernels

SHAPE = (2, 33000, 33000)  # 2.18e9 voxels
NEEDED_GB = 6.0


def free_gb() -> float:
    """Memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) / 2**20
    except (OSError, StopIteration):
        return 0.0


@pytest.mark.skipif(free_gb() < NEEDED_GB, reason=f"needs {NEEDED_GB:g} GB of free memory")
def test_labels_beyond_31_bits() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[-1, -1, -3:] = 1, 2, 3
    matrix = np.eye(4)[:3].copy()
    matrix[:, 3] = np.array(SHAPE) - (1, 1, 3)
    assert kernels.resample_labels(labels, matrix, (1, 1, 3)).tolist() == [[[1, 2, 3]]]
    flipped = labels[::-1, ::-1, ::-1]
    assert kernels.resample_labels(flipped, np.eye(4)[:3].copy(), (1, 1, 3)).tolist() == [[[3, 2, 1]]]


@pytest.mark.skipif(free_gb() < NEEDED_GB, reason=f"needs {NEEDED_GB:g} GB of free memory")
def test_floats_beyond_31_bits_of_bytes() -> None:
    image = np.zeros((2, 17000, 17000), np.float32)  # 2.3e9 bytes, mostly never touched
    image[-1, -1, -2:] = 1, 3
    matrix = np.eye(4)[:3].copy()
    matrix[:, 3] = np.array(image.shape) - (1, 1, 1.5)
    assert kernels.resample(image, matrix, (1, 1, 1)).tolist() == [[[2.0]]]
