from __future__ import annotations

import numpy as np

from tests.fuzz import headers


def test_a_few_hundred_files_are_read_or_refused() -> None:
    with headers.target() as feed:
        for number in range(400):
            feed(headers.example(np.random.default_rng([0, number])))
