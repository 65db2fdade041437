"""The short form of the fuzzing of bundles."""

from __future__ import annotations

import numpy as np

from tests.fuzz import bundles


def test_whatever_stands_in_a_bundle_is_read_or_refused_in_one_line() -> None:
    with bundles.target() as check:
        for index in range(120):
            check(bundles.example(np.random.default_rng([0, index])))
