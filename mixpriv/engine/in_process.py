"""A segmenter without a server: the same network, run in this process."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from mixpriv.engine import Precision, load


class InProcessSegmenter:
    """What a server does with a mixture, without one."""

    leaves_machine = False
    address = ""
    deliveries: tuple[()] = ()

    def __init__(self, network: str | os.PathLike[str], *, precision: Precision = "auto") -> None:
        self._network = load(network, precision=precision)

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Mixture (N, M, D, H, W) to probabilities x 255 without background (N, C-1, D, H, W)."""
        return np.asarray(self._network(mixture=mixture)["segmentation_mixture"])
