"""One page of a cohort, in one file that needs no network: distributions, outliers, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixpriv import __version__

if TYPE_CHECKING:
    from mixpriv.cohort.group import Row

FEWEST = 8
"""Scans; of fewer nobody can say which is unusual."""

OUTLIER_Z = 3.5
"""Modified z-score from which a value is an outlier (Iglewicz and Hoaglin, 1993)."""

_WIDTH, _MARGIN, _HEIGHT = 640.0, 12.0, 44.0
"""Of a plot, in pixels."""


@dataclass(frozen=True)
class Dot:
    """A scan in a plot, at ``x``; ``z`` is its modified z-score."""

    scan: str
    value: float
    x: float
    y: float
    z: float

    @property
    def outlier(self) -> bool:
        """Whether the value is unusual in this cohort."""
        return abs(self.z) > OUTLIER_Z


@dataclass(frozen=True)
class Plot:
    """The distribution of one volume: a dot for each scan, a box from the lower to the upper quartile."""

    name: str
    dots: list[Dot]
    low: float
    high: float
    median: float
    box: tuple[float, float, float]


def modified_z(values: Sequence[float]) -> list[float]:
    """How unusual each value is: its distance from the median over that of half of all; 0 if there are too few.

    Examples
    --------
    >>> modified_z([1.0, 2.0])
    [0.0, 0.0]
    >>> [round(z, 1) for z in modified_z([10, 11, 12, 13, 14, 15, 16, 40])][-1]
    8.9
    """
    if len(values) < FEWEST:
        return [0.0] * len(values)
    distances = np.asarray(values) - np.median(values)
    spread = float(np.median(np.abs(distances)))
    # Where half of all are alike their mean distance is taken, as the same authors say.
    scale = spread / 0.6745 if spread else float(np.abs(distances).mean()) / 0.797885
    return [float(z) for z in distances / scale] if scale else [0.0] * len(values)


def plots_of(rows: Sequence[Row]) -> list[Plot]:
    """A plot for each volume that any scan has."""
    names = dict.fromkeys(name for row in rows for name in row.volumes)
    return [_plot(name, [row for row in rows if name in row.volumes]) for name in names]


def encode_page(rows: Sequence[Row]) -> bytes:
    """The page as HTML; ModuleNotFoundError without Jinja2."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    plots = plots_of(rows)
    outliers = [(plot.name, dot) for plot in plots for dot in plot.dots if dot.outlier]
    page = environment.get_template("cohort.html").render(
        rows=rows,
        plots=plots,
        outliers=sorted(outliers, key=lambda item: -abs(item[1].z)),
        names=[plot.name for plot in plots],
        missing=[row for row in rows if not row.done],
        told=[row for row in rows if row.warnings or row.failed_checks],
        version=__version__,
        fewest=FEWEST,
        limit=OUTLIER_Z,
        width=_WIDTH,
        height=_HEIGHT,
    )
    return page.encode()


def _plot(name: str, rows: Sequence[Row]) -> Plot:
    values = [row.volumes[name] for row in rows]
    low, high = min(values), max(values)

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(_MARGIN + share * (_WIDTH - 2 * _MARGIN), 1)

    zs = modified_z(values)
    dots = [
        Dot(row.scan, value, place(value), _HEIGHT / 2 + 6 * (n % 3 - 1), z)
        for n, (row, value, z) in enumerate(zip(rows, values, zs, strict=True))
    ]
    first, middle, last = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return Plot(name, dots, low, high, middle, (place(first), place(middle), place(last)))
