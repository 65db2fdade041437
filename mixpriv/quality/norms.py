"""What results of good scans look like, and what the score makes of those that differ: ``quality.json`` of a bundle.

The file is written by ``mixpriv quality``. A bundle without it has no checks of results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.quality.signs import Signs
from mixpriv.reading import read_json
from mixpriv.schema import Field, FieldError, note, number, record, sequence, text, whole

FILE = "quality.json"
SCHEMA = 1
MOST_BYTES = 2**20
ADULT, OLDEST = 18.0, 95.0
"""Years: volumes of younger people are not judged, and without an age all of these are possible."""

SIDES = ("low", "high")
PER_CLASS = ("certainty", "volume", "symmetry", "mirrored", "fragments", "place", "spread")
OF_ALL = ("contrast", "smooth contrast", "step", "steadiness", "grain", "border", "outside", "cut")
NAMES = (*PER_CLASS, *OF_ALL)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Normal:
    """Mean and deviation of a sign in good scans: for each counted class, along each axis where it is a place."""

    mean: Values
    deviation: Values


@dataclass(frozen=True)
class Norms:
    """A bundle's, checked.

    Attributes
    ----------
    counted : the classes that the score is about
    spacing_mm : of the bundle's grid
    normal : of each sign that `values` gives
    drift : by which the logarithm of each counted class's share changes in a year of an adult's life
    age : of the people whose shares are the normal ones, years
    best : the score of a result without any symptom
    weights : how much each symptom takes away from it
    limits : of the checks
    """

    counted: tuple[int, ...]
    spacing_mm: float
    normal: Mapping[str, Normal] = field(repr=False)
    drift: Values = field(repr=False)
    age: float
    best: float
    weights: Mapping[str, float] = field(repr=False)
    limits: Mapping[str, float]


def values(signs: Signs, counted: tuple[int, ...]) -> dict[str, Values]:
    """The signs on scales on which they are spread evenly: (classes,), (classes, 3) of places, (1,) of the others."""
    own = np.array(counted) - 1
    return {
        "certainty": signs.certainty[own],
        "volume": np.log(signs.share[own] + 1e-4),
        "symmetry": signs.left[own],
        "mirrored": signs.mirrored[own],
        "fragments": np.log(signs.fragments[own] + 0.01),
        "place": signs.place[own],
        "spread": np.log(signs.spread[own] + 0.1),
        "contrast": np.array([signs.contrast]),
        "smooth contrast": np.array([signs.smooth_contrast]),
        "step": np.array([signs.step]),
        "steadiness": np.array([signs.steadiness]),
        "grain": np.log([signs.grain + 1e-3]),
        "border": np.log([signs.border + 1e-3]),
        "outside": np.log([signs.outside + 0.01]),
        "cut": np.log([signs.cut_cm2 + 1.0]),
    }


def deviations(signs: Signs, norms: Norms) -> dict[str, Values]:
    """How many deviations each sign is from what is normal."""
    found = values(signs, norms.counted)
    return {name: (found[name] - normal.mean) / normal.deviation for name, normal in norms.normal.items()}


def read_norms(bundle: Bundle) -> Norms | None:
    """Read a bundle's norms; None if it has none.

    Raises
    ------
    InputError
        the file is damaged, or was made for another network.

    Examples
    --------
    >>> from mixpriv.bundle import load_bundle
    >>> read_norms(load_bundle("brain-t1")).counted
    (1, 2, 3, 4)
    >>> read_norms(load_bundle("hippocampus")) is None
    True
    """
    path = bundle.directory / FILE
    if not path.exists():
        return None
    return norms_of(read_json(path, MOST_BYTES), bundle, path)


def norms_of(fields: Any, bundle: Bundle, path: Path) -> Norms:
    """Check what ``quality.json`` holds; see `read_norms`."""
    classes = len(bundle.classes) - 1
    try:
        found = record(_fields(classes))(fields)
        counted = found["counted"]
        normal = {name: _normal(name, pair, len(counted)) for name, pair in found["normal"].items()}
    except FieldError as error:
        raise InputError(f"{path}: field missing or of the wrong kind: {error}") from None
    if found["fingerprint"] != bundle.fingerprint:
        raise InputError(f"{path}: made for another network than that of bundle {bundle.name}")
    if len(found["drift"]) != len(counted):
        raise InputError(f"{path}: drift: expected {len(counted)} values")
    return Norms(
        counted,
        bundle.spacing_mm,
        normal,
        np.array(found["drift"]),
        found["age"],
        found["best"],
        found["weights"],
        found["limits"],
    )


_NUMBER = number(-1e6, 1e6)
_LIMITS = (
    "score", "certainty", "agreement", "volume", "sides", "fragments", "place", "fit",
)  # fmt: skip


def _fields(classes: int) -> Mapping[str, Field]:
    pair = record({"mean": Field(note), "deviation": Field(note)})
    weights = {f"{name} {side}": Field(number(0, 10), 0.0) for name in NAMES for side in SIDES}
    return {
        "schema": Field(whole(SCHEMA, SCHEMA)),
        "fingerprint": Field(text("[0-9a-f]{64}", "64 hex digits")),
        "made": Field(note, None),
        "counted": Field(sequence(whole(1, classes), 1, classes, distinct=True)),
        "normal": Field(record({name: Field(pair) for name in NAMES})),
        "drift": Field(sequence(number(-1, 1), 1, classes)),
        "age": Field(number(0, 120)),
        "best": Field(number(0, 2)),
        "weights": Field(record(weights)),
        "limits": Field(record({name: Field(_NUMBER) for name in _LIMITS})),
    }


def _normal(name: str, pair: Mapping[str, Any], counted: int) -> Normal:
    """Mean and deviation of one sign, of the shape that `values` has."""
    inner = sequence(_NUMBER, 3, 3) if name in ("place", "spread") else _NUMBER
    size = counted if name in PER_CLASS else 1
    arrays = []
    for part in ("mean", "deviation"):
        try:
            arrays.append(np.array(sequence(inner, size, size)(pair[part])))
        except FieldError as error:
            raise FieldError(f"normal.{name}.{part}: {error}") from None
    if (arrays[1] <= 0).any():
        raise FieldError(f"normal.{name}.deviation: expected numbers above 0")
    return Normal(*arrays)
