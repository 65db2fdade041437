"""What the values of a segmentation mean: one for each class, or two where a bundle tells left and right apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.errors import InputError

LEFT, RIGHT = 0, 1

_COLORS = ("#f0d5a0", "#d26962", "#82bc6c", "#408ae8", "#70d0dc", "#b284de",
           "#eca042", "#e276b2", "#9c9c5a", "#5aaa96", "#c8c8c8")  # fmt: skip
"""Of classes whose bundle names no colours, in turn."""


Numbers = tuple[tuple[tuple[int, ...], ...], ...]
"""Of each class, of each of its sides: what a label map may call it."""


@dataclass(frozen=True)
class Label:
    """A value and what it means; ``color`` is ``#rrggbb``, ``abbreviation`` ``n/a`` where a bundle names none."""

    index: int
    name: str
    abbreviation: str
    color: str


@dataclass(frozen=True)
class Labelling:
    """How classes become the values of a segmentation.

    Attributes
    ----------
    classes : one for each class, the background first; ``index`` is the number of the class
    values : for each class its numbers: of one that a brain has on both sides the left's, then the right's. The first
        number of a side is written; label maps may also hold the others, which mean the same
    merges : which of these each class of the network becomes; None if they are the network's

    Examples
    --------
    >>> from mixpriv.bundle import load_bundle
    >>> [label.abbreviation for label in Labelling.of(load_bundle("hippocampus")).labels]
    ['BG', 'AHIP', 'PHIP']
    """

    classes: tuple[Label, ...]
    values: Numbers
    merges: tuple[int, ...] | None = None

    @staticmethod
    def of(bundle: Bundle, *, tissues: bool = False) -> Labelling:
        """What a bundle says, of its classes or of the ``tissues`` that these are merged to.

        Raises
        ------
        InputError
            tissues are asked for and the bundle has none.
        """
        if not tissues:
            numbers = bundle.labels or _own_numbers(len(bundle.classes))
            return Labelling(_labels(bundle.classes, bundle.abbreviations, bundle.colors), numbers)
        merged = bundle.tissues
        if merged is None:
            raise InputError(f"bundle {bundle.name}: expected one whose classes merge to tissues, got none")
        numbers = _own_numbers(len(merged.classes))
        return Labelling(_labels(merged.classes, merged.abbreviations, merged.colors), numbers, merged.of)

    @staticmethod
    def numbered(names: Sequence[str]) -> Labelling:
        """Of classes whose own numbers are their values."""
        return Labelling(_labels(names, None, None), _own_numbers(len(names)))

    @property
    def labels(self) -> tuple[Label, ...]:
        """All values that are written, in rising order, the background first."""
        return tuple(sorted((found for of in self.classes for found in self.sides(of)), key=lambda found: found.index))

    def sides(self, of: Label) -> tuple[Label, ...]:
        """The labels of a class: its own, or the left and the right one."""
        numbers = [side[0] for side in self.values[of.index]]
        if len(numbers) == 1:
            return (Label(numbers[0], of.name, of.abbreviation, of.color),)
        short = of.abbreviation
        return tuple(
            Label(number, f"{side} {of.name}", short if short == "n/a" else f"{side[0].upper()}-{short}", of.color)
            for number, side in zip(numbers, ("left", "right"), strict=True)
        )

    @property
    def is_sided(self) -> bool:
        """Whether any class has a left and a right label."""
        return any(len(sides) == 2 for sides in self.values)

    @property
    def sided(self) -> NDArray[np.uint8]:
        """(C,) the number of a class that has two sides, 0 for the others."""
        return np.array([of.index * (len(self.values[of.index]) == 2) for of in self.classes], np.uint8)

    def written(self, side: int) -> NDArray[np.uint8]:
        """(C,) the value of each class on the `LEFT` or the `RIGHT`."""
        return np.array([sides[side if len(sides) == 2 else 0][0] for sides in self.values], np.uint8)

    def by_value(self, found: Mapping[int, Sequence[str]]) -> dict[int, tuple[str, ...]]:
        """What is said of the network's classes, said of the values that are written: each thing once."""
        said: dict[int, dict[str, None]] = {}
        for number, names in found.items():
            of = number if self.merges is None else self.merges[number]
            for sides in self.values[of]:
                said.setdefault(sides[0], {}).update(dict.fromkeys(names))
        return {value: tuple(names) for value, names in said.items()}

    def classes_of(self, labels: NDArray[Any]) -> NDArray[np.uint8]:
        """The classes of a label map; what has no class here is background."""
        of = np.zeros(256, np.uint8)
        for index, sides in enumerate(self.values):
            of[[side[0] for side in sides]] = index
        return of[self.read(labels)[1]]

    def require(self, labels: NDArray[Any], name: str) -> None:
        """Refuse a label map with other values, by an `InputError` that names it."""
        if not self.read(labels)[0].all():
            numbers = sorted(number for sides in self.values for side in sides for number in side)
            is_plain = numbers == list(range(len(numbers)))
            said = f"0 to {numbers[-1]}" if is_plain else ", ".join(map(str, numbers))
            raise InputError(f"{name}: expected labels {said}, got others")

    def read(self, labels: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """Where a label map has values that mean anything here, and the map with the values that would be written.

        Examples
        --------
        >>> from mixpriv.bundle import load_bundle
        >>> known, written = Labelling.of(load_bundle("hippocampus")).read(np.array([0.0, 2.0, 7.0]))
        >>> known.tolist(), written.tolist()
        ([True, True, False], [0, 2, 0])
        """
        table, known = np.zeros(256, np.uint8), np.zeros(256, bool)
        for sides in self.values:
            for side in sides:
                table[list(side)], known[list(side)] = side[0], True
        whole = (labels >= 0) & (labels <= 255) & (labels == np.floor(labels))
        values = np.where(whole, labels, 0).astype(np.uint8)
        return whole & known[values], table[values] * whole


def _labels(
    names: Sequence[str], abbreviations: Sequence[str] | None, colors: Sequence[str] | None
) -> tuple[Label, ...]:
    return tuple(
        Label(
            index,
            name,
            abbreviations[index] if abbreviations else "n/a",
            colors[index] if colors else _COLORS[(index - 1) % len(_COLORS)],
        )
        for index, name in enumerate(names)
    )


def _own_numbers(count: int) -> Numbers:
    return tuple(((index,),) for index in range(count))
