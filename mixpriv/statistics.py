"""Intervals of means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 10_000


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % interval, bias-corrected and accelerated (Efron 1987); values that do not differ have none.

    Parameters
    ----------
    values : (n,), one for each person, never one for each scan, class or seed of a person

    Examples
    --------
    >>> mean, low, high = bootstrap(np.array([0.8, 0.9, 0.85, 0.95]))
    >>> bool(low < mean < high)
    True
    """
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, mean, mean
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(seed)
    ).confidence_interval
    return mean, float(found.low), float(found.high)
