"""A picture of a run: the scan, what was sent of it, and its segmentation, in three planes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mixpriv import __version__, kernels
from mixpriv.client.segmentation import Segmentation
from mixpriv.client.table import ClassVolume

RIM_MM = 8.0
"""Around the brain, of what is shown: skull, but no face."""

_PIXEL_MM = 0.5
_LETTER = 8  # pixels of the small font, about
_LONGEST = 380  # pixels of a plane's longer side, where half a millimetre a pixel would be less: crops
_MARGIN, _GAP, _LINE, _SIDE = 28, 14, 30, 22
_BACKGROUND, _INK, _FAINT = (0, 0, 0), (236, 238, 240), (142, 149, 157)
_WARNING = (255, 190, 92)
_OPACITY = 0.62
_PLANES = ((2, "L", "R"), (1, "L", "R"), (0, "P", "A"))
"""Axial, coronal, sagittal: the array axis that is cut, and what lies left and right in the picture (left is left)."""

Rgb = NDArray[np.uint8]


def draw_picture(result: Segmentation, mode: str = "", *, identifiers: bool = False) -> bytes:
    """A PNG: planes through the middle of the brain or crop (rows) of scan, mixture and segmentation (columns).

    A line around the mask shows what was taken for brain; the checks that failed stand below. Of several modalities the
    first is shown; where no server was asked there is no mixture. Below stand versions and ``mode``. Only with
    ``identifiers`` is there more of a head than the brain with a rim.
    """
    columns = _panels(result, whole=identifiers)
    heads = ["the scan stays here", "the segmentation made here"]
    if result.server is not None:
        sent = (
            "sent to the server" if len(result.exchanges) == 1 else f"sent to the server, 1 of {len(result.exchanges)}"
        )
        heads[1:] = [sent, "the segmentation made from the answer"]
    widths = [2 * _SIDE + max(panel.shape[1] for panel in column) for column in columns]
    heights = [max(column[row].shape[0] for column in columns) for row in range(len(_PLANES))]
    top = _MARGIN + _LINE + _GAP
    legend = top + sum(heights) + _GAP * len(heights)
    width = 2 * _MARGIN + sum(widths) + _GAP * (len(columns) - 1)
    failed, how = _told(result, width), _made(result, mode)
    rows = -(-len(result.both_sides) // _per_row(len(result.both_sides), width)) + len(failed) + 1
    height = legend + _LINE * rows + _MARGIN
    canvas = Image.new("RGB", (width, height), _BACKGROUND)
    draw, font, small = ImageDraw.Draw(canvas), ImageFont.load_default(20), ImageFont.load_default(15)
    x = _MARGIN
    for head, column, width in zip(heads, columns, widths, strict=True):
        draw.text((x + width / 2, _MARGIN), head, _INK, font, anchor="ma")
        y = top
        for panel, height, (_, left, right) in zip(column, heights, _PLANES, strict=True):
            corner = (x + (width - panel.shape[1]) // 2, y + (height - panel.shape[0]) // 2)
            canvas.paste(Image.fromarray(panel), corner)
            draw.text((x + _SIDE / 2, y + height / 2), left, _FAINT, small, anchor="mm")
            draw.text((x + width - _SIDE / 2, y + height / 2), right, _FAINT, small, anchor="mm")
            y += height + _GAP
        x += width + _GAP
    _draw_legend(draw, result.both_sides, legend, canvas.width)
    for n, line in enumerate(failed):
        draw.text((_MARGIN, canvas.height - _MARGIN - _LINE * (len(failed) + 1 - n)), line, _WARNING, small)
    draw.text((_MARGIN, canvas.height - _MARGIN - _LINE / 2), how, _FAINT, small, anchor="lm")
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def draw_sent(result: Segmentation) -> bytes:
    """A PNG: three planes, side by side, of the first image that was sent."""
    planes = _panels(result)[1]
    tallest = max(len(plane) for plane in planes)
    canvas = Image.new("RGB", (sum(plane.shape[1] for plane in planes), tallest), _BACKGROUND)
    x = 0
    for plane in planes:
        canvas.paste(Image.fromarray(plane), (x, (tallest - len(plane)) // 2))
        x += plane.shape[1]
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def with_rim(labels: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """All within `RIM_MM` of what is labelled (I, J, K); nothing if nothing is."""
    if not labels.any():
        return labels
    reach = np.ceil(RIM_MM / spacing_mm).astype(int)
    found = ndimage.find_objects(labels.astype(np.uint8))[0]
    ends = zip(found, reach, labels.shape, strict=True)
    box = tuple(slice(max(one.start - r, 0), min(one.stop + r, n)) for one, r, n in ends)
    near = np.zeros(labels.shape, bool)
    near[box] = ndimage.distance_transform_edt(~labels[box], sampling=spacing_mm) <= RIM_MM
    return near


def _panels(result: Segmentation, *, whole: bool = False) -> list[list[Rgb]]:
    """Each column's planes, drawn: scan, mixture if there is one, segmentation over the scan."""
    target = result.conformed
    low, high = target.intensity_ranges[0]
    scan = np.clip((target.image - low) / (1.1 * (high - low)), 0, 1)
    if not (whole or result.bundle.crop):
        scan = scan * with_rim(target.mask != 0, target.grid.spacing_mm)
    labels = kernels.argmax(result.probabilities) * (target.mask != 0)
    middle = [round(float(np.average(np.arange(n), weights=w))) for n, w in _profiles(target.mask)]
    extent_mm = float((np.array(scan.shape) * target.grid.spacing_mm).max())
    pixel_mm = min(_PIXEL_MM, extent_mm / _LONGEST)
    colors = np.array([(0, 0, 0), *(_rgb(volume.color) for volume in result.both_sides)], np.float32)
    shown = result.exchanges[:1] if result.server is not None else ()
    planes: list[list[Rgb]] = []
    for axis, _, _ in _PLANES:
        spacing = np.delete(target.grid.spacing_mm, axis)
        size = tuple(round(n * s / pixel_mm) for n, s in zip(np.delete(scan.shape, axis), spacing, strict=True))
        grey = _enlarge(np.take(scan, middle[axis], axis), size)
        sent = [_enlarge(np.take(e.sent[0].astype(np.float32), middle[axis], axis), size) for e in shown]
        seen = _enlarge_labels(np.take(labels, middle[axis], axis), size, len(result.probabilities))
        inside = _enlarge(np.take(target.mask, middle[axis], axis).astype(np.float32), size) > 0.5
        planes.append([_outlined(_grey(grey), inside), *map(_grey, sent), _overlay(grey, seen, colors)])
    return [list(column) for column in zip(*planes, strict=True)]


def _profiles(mask: NDArray[np.uint8]) -> list[tuple[int, NDArray[np.intp]]]:
    others = ((1, 2), (0, 2), (0, 1))
    return [(n, np.count_nonzero(mask, axis=axes)) for n, axes in zip(mask.shape, others, strict=True)]


def _enlarge(plane: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """A plane (x, y) as rows from the top (y reversed) and columns (x), at its real aspect."""
    upright = np.ascontiguousarray(plane.T[::-1], dtype=np.float32)
    return np.asarray(Image.fromarray(upright).resize((size[0], size[1]), Image.Resampling.BICUBIC))


def _enlarge_labels(plane: NDArray[np.uint8], size: tuple[int, ...], classes: int) -> NDArray[np.intp]:
    """As `_enlarge`, each class by itself, so that borders are smooth."""
    shares = [_enlarge((plane == value).astype(np.float32), size) for value in range(classes)]
    return np.asarray(np.argmax(shares, axis=0))


def _grey(plane: NDArray[np.float32]) -> Rgb:
    return np.asarray(np.repeat((np.clip(plane, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2))


def _outlined(picture: Rgb, inside: NDArray[np.bool_]) -> Rgb:
    """A picture with a line around what is inside."""
    around = np.zeros_like(inside)
    around[1:-1, 1:-1] = inside[:-2, 1:-1] | inside[2:, 1:-1] | inside[1:-1, :-2] | inside[1:-1, 2:]
    return np.where((around & ~inside)[..., None], np.array(_WARNING, np.uint8), picture)


def _made(result: Segmentation, mode: str) -> str:
    made = f"mixpriv {__version__}, {result.bundle.name} {result.bundle.version}" + (f", mode {mode}" if mode else "")
    return f"{made}. The patient's left is on the left."


def _told(result: Segmentation, width: int) -> list[str]:
    """The checks that failed, in lines that fit."""
    most = (width - 2 * _MARGIN) // _LETTER
    told = [f"check {check.name}: {check.words}" for check in result.checks if check.failed]
    return [line for text in told for line in textwrap.wrap(text, most)]


def _overlay(grey: NDArray[np.float32], labels: NDArray[np.intp], colors: NDArray[np.float32]) -> Rgb:
    base = _grey(grey).astype(np.float32)
    colour = colors[labels] * (0.55 + 0.45 * base / 255)
    opacity = np.where(labels > 0, _OPACITY, 0.0)[..., None]
    return np.asarray(base * (1 - opacity) + colour * opacity, dtype=np.uint8)


def _rgb(color: str) -> tuple[int, int, int]:
    """Red, green and blue of ``#rrggbb``."""
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


_ENTRY = 285
"""Pixels of an entry in the legend, with a long name."""


def _per_row(count: int, width: int) -> int:
    """Entries of the legend side by side."""
    return max(1, min(count, (width - 2 * _MARGIN) // _ENTRY))


def _draw_legend(draw: ImageDraw.ImageDraw, volumes: Sequence[ClassVolume], top: int, width: int) -> None:
    font = ImageFont.load_default(17)
    per_row = _per_row(len(volumes), width)
    step = (width - 2 * _MARGIN) / per_row
    for n, volume in enumerate(volumes):
        x, y = _MARGIN + step * (n % per_row), top + _LINE * (n // per_row) + _LINE / 2
        colour = _rgb(volume.color)
        draw.rounded_rectangle((x, y - 8, x + 16, y + 8), 4, colour)
        digits = 0 if volume.volume_ml >= 10 else 1
        draw.text((x + 26, y), f"{volume.name}  {volume.volume_ml:.{digits}f} ml", _INK, font, anchor="lm")
