"""How much of a scan each class takes, each side by itself, as a table beside the label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixpriv.labels import Labelling

COLUMNS = ("index", "name", "abbreviation", "color", "voxels", "volume_ml", "flags")
"""Of the table; the first four are those of a BIDS ``dseg.tsv``."""


@dataclass(frozen=True)
class ClassVolume:
    """How much of a scan a class, or one side of it, takes.

    ``color`` is ``#rrggbb``, ``flags`` are names of the failed checks of the result that concern it.
    """

    index: int
    name: str
    abbreviation: str
    color: str
    voxels: int
    volume_ml: float
    flags: tuple[str, ...] = ()


def class_volumes(
    labels: NDArray[np.uint8], voxel_ml: float, labelling: Labelling, flags: Mapping[int, Sequence[str]] | None = None
) -> list[ClassVolume]:
    """Count a label map (I, J, K): one row for each label but the background's, with the flags of its value.

    Examples
    --------
    >>> from mixpriv.bundle import load_bundle
    >>> labels = np.array([[[0, 1, 1, 2]]], np.uint8)
    >>> for volume in class_volumes(labels, 0.5, Labelling.of(load_bundle("hippocampus"))):
    ...     print(volume.abbreviation, volume.voxels, volume.volume_ml)
    AHIP 2 1.0
    PHIP 1 0.5
    """
    # A comparison per label is many times faster than numpy's bincount, which first makes every label an int64.
    counts = {label: int(np.count_nonzero(labels == label.index)) for label in labelling.labels[1:]}
    return [
        ClassVolume(
            label.index,
            label.name,
            label.abbreviation,
            label.color,
            count,
            round(count * voxel_ml, 3),
            tuple((flags or {}).get(label.index, ())),
        )
        for label, count in counts.items()
    ]


def encode_table(volumes: Sequence[ClassVolume]) -> bytes:
    """The volumes as tab-separated text with a header line."""
    rows = [
        [v.index, v.name, v.abbreviation, v.color, v.voxels, f"{v.volume_ml:.3f}", ",".join(v.flags) or "n/a"]
        for v in volumes
    ]
    return "".join("\t".join(map(str, row)) + "\n" for row in [COLUMNS, *rows]).encode()
