from __future__ import annotations

import numpy as np

from tests.fuzz import answers


def test_a_few_hundred_answers_are_taken_or_refused() -> None:
    with answers.target() as feed:
        for number in range(300):
            feed(answers.example(np.random.default_rng([0, number])))
