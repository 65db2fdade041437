"""Pipelines and segmenters to test with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mixpriv.client.pipeline import Pipeline
from mixpriv.protection.modes import Mode
from mixpriv.wire.transport import Segmenter


def using(pipeline: Pipeline, mode: Mode) -> Pipeline:
    """The same pipeline in another mode."""
    mode.require(pipeline.bundle)
    return replace(pipeline, mode=mode)


@dataclass
class Elsewhere:
    """A segmenter that says that it is on another machine, and remembers what it was shown."""

    inner: Segmenter
    address: str = "host:1"
    leaves_machine: bool = True
    deliveries: tuple[()] = ()
    seen: list[NDArray[np.float16]] = field(default_factory=list)

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        self.seen.append(mixture)
        return self.inner.segment(mixture)
