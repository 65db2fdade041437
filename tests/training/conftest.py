"""Training needs the extra ``[train]``; without it these tests are skipped as a whole, saying so."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

MISSING = [name for name in ("torch", "monai", "onnx", "tomllib") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header() -> str:
    """Say why nothing of this folder runs."""
    return f"tests/training skipped: {', '.join(MISSING)} not installed (extra [train])" if MISSING else ""


@pytest.fixture(scope="session")
def head():  # type: ignore[no-untyped-def]
    """A phantom head: ellipsoid brain with ventricles, nuclei and cortex in CSF, skull and skin around it."""
    from mixpriv.imaging.alignment import mask_moments_mm
    from mixpriv.training.data.labels import FIRST_OUTER, TISSUE_ANATOMY, Head

    shape = (96, 110, 100)
    grid = np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grid))
    classes = np.zeros(shape, np.uint8)
    for limit, name in ((0.95, "csf"), (0.88, "cortex"), (0.7, "cerebral_wm"), (0.35, "thalamus"), (0.2, "ventricle")):
        classes[radius < limit] = TISSUE_ANATOMY.number(name)
    classes[(radius >= 0.95) & (radius < 1.05)] = FIRST_OUTER + 1
    classes[(radius >= 1.05) & (radius < 1.15)] = FIRST_OUTER + 5
    mask = (classes > 0) & (classes < FIRST_OUTER)
    centre, std = mask_moments_mm(mask, np.eye(4))
    return Head("phantom", classes, mask, centre, std)
