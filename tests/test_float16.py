"""float16 to float32."""

from __future__ import annotations

import numpy as np

from mixpriv.float16 import single


def test_every_finite_half_becomes_the_same_single() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    np.testing.assert_array_equal(single(finite).view(np.uint32), finite.astype(np.float32).view(np.uint32))


def test_views_and_shapes_are_kept() -> None:
    halves = np.linspace(-2, 2, 24).astype(np.float16).reshape(2, 3, 4)[:, ::-1, ::2]
    np.testing.assert_array_equal(single(halves), halves.astype(np.float32))
