"""How similar mixtures of mode shielded are to other people's scans (impostors): what a risk is set against."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mixpriv.bundle import Shielded
from mixpriv.reid.check import SimilarityCheck
from mixpriv.training.config import JointConfig
from mixpriv.training.data.sources import open_targets
from mixpriv.training.examples import Examples, ReferencePool


def measure_impostors(config: JointConfig, shielded: Shielded, data: Path, count: int = 40) -> dict[str, float]:
    """Mean and standard deviation of the similarity of ``count`` mixtures to each other's scans, of the training data.

    Both by the median, since some of the scans may be of one person.

    Parameters
    ----------
    data : as for the training; InputError if there is none
    """
    sent = config.changed(
        crop=config.task.grid_shape, batch=1, plain_share=0.0, plain_steps=0, references=count, shielded_share=1.0,
        shielded_range=shielded.weight_range, shielded_warp_mm=shielded.warp_mm,
    )  # fmt: skip
    targets = open_targets(sent, data)
    source = Examples(sent, targets, ReferencePool(targets.reference_model(), sent.seed, count))
    mixtures, known = [], []
    for step in range(count):
        example = source.at(step)
        assert example.target_image is not None  # noqa: S101 - a mixture has a target
        mixtures.append(example.image[0].numpy())
        known.append(SimilarityCheck.of(example.target_image[0].numpy(), sent.task.spacing_mm))
    found = [one.similarity(mixture) for n, one in enumerate(known) for m, mixture in enumerate(mixtures) if n != m]
    middle = float(np.median(found))
    spread = 1.4826 * float(np.median(np.abs(np.array(found) - middle)))
    return {"mean": round(middle, 4), "std": round(spread, 4), "mixtures": count}
