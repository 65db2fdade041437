"""The slices of a series as a volume: put in order by where they lie, and refused if they make no regular grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import InputError

_ANGLE_TOLERANCE = 1e-3  # of direction cosines, and of a tilt: .06 degrees
_GAP_TOLERANCE = 0.05  # of a distance between slices; positions are written with few digits
_SAME_PLACE_MM = 0.01
_TO_RAS = np.array([-1.0, -1.0, 1.0])
"""DICOM's axes lead to the left and to the back; ours to the right and to the front."""


@dataclass(frozen=True)
class Slice:
    """One slice: where it lies in the patient, and how its values are scaled.

    Attributes
    ----------
    position : (3,) mm, the centre of the first pixel, in DICOM's axes (L, P, S)
    axes : (2, 3) directions along a row and along a column
    spacing : mm between columns, and between rows
    place : of the image among the files, and of the frame in it
    """

    position: NDArray[np.float64] = field(repr=False)
    axes: NDArray[np.float64] = field(repr=False)
    spacing: tuple[float, float]
    shape: tuple[int, int]
    scaling: tuple[float, float]
    place: tuple[int, int]


def slices_of(header: Any, image: int) -> list[Slice]:
    """All slices of a DICOM image, one or those of a multi-frame one; ValueError if something is missing."""
    if int(header.get("SamplesPerPixel", 1)) != 1 or header.get("PhotometricInterpretation") != "MONOCHROME2":
        raise ValueError("colours")
    shape = (int(header.Columns), int(header.Rows))
    frames = int(header.get("NumberOfFrames") or 1)
    if "PerFrameFunctionalGroupsSequence" not in header:
        if frames != 1:
            raise ValueError("frames without places")
        return [_slice(header, header, header, shape, (image, 0))]
    shared = header.SharedFunctionalGroupsSequence[0]
    groups = header.PerFrameFunctionalGroupsSequence
    if len(groups) != frames:
        raise ValueError("frames")
    return [_of_frame(shared, group, shape, (image, frame)) for frame, group in enumerate(groups)]


def _of_frame(shared: Any, group: Any, shape: tuple[int, int], place: tuple[int, int]) -> Slice:
    def part(name: str) -> Any:
        sequence = group.get(name) or shared.get(name)
        return sequence[0] if sequence else {}

    place_of = {**_items(part("PlanePositionSequence")), **_items(part("PlaneOrientationSequence"))}
    return _slice(place_of, part("PixelMeasuresSequence"), part("PixelValueTransformationSequence"), shape, place)


def _items(group: Any) -> dict[str, Any]:
    return {name: group.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient") if group.get(name)}


def _slice(where: Any, measures: Any, values: Any, shape: tuple[int, int], place: tuple[int, int]) -> Slice:
    position = np.array(where.get("ImagePositionPatient"), dtype=np.float64)
    axes = np.array(where.get("ImageOrientationPatient"), dtype=np.float64)
    rows_mm, columns_mm = (float(value) for value in measures.get("PixelSpacing"))
    slope, inter = values.get("RescaleSlope"), values.get("RescaleIntercept")
    scaling = (1.0 if slope in (None, "") else float(slope), 0.0 if inter in (None, "") else float(inter))
    if position.shape != (3,) or axes.shape != (6,) or not np.isfinite([*position, *axes, *scaling]).all():
        raise ValueError("place")
    if not (0 < rows_mm < 100 and 0 < columns_mm < 100) or min(shape) < 1:
        raise ValueError("size of a pixel")
    return Slice(position, axes.reshape(2, 3), (columns_mm, rows_mm), shape, scaling, place)


def stacked(slices: list[Slice], name: str) -> tuple[list[Slice], NDArray[np.float64]]:
    """Put slices in order along their normal; returns them and the affine (4, 4) from voxel index to world mm (RAS+).

    An index counts columns, rows, slices.

    Raises
    ------
    InputError
        slices differ in size or direction, are missing or doubled, or are not stacked at right angles.
    """
    first = slices[0]
    for one in slices:
        same = one.shape == first.shape and np.allclose(one.spacing, first.spacing, rtol=1e-3)
        if not same or np.abs(one.axes - first.axes).max() > 10 * _ANGLE_TOLERANCE:
            raise InputError(f"{name}: its slices differ in size or direction: expected one volume")
    across, down = first.axes
    if np.abs(first.axes @ first.axes.T - np.eye(2)).max() > 10 * _ANGLE_TOLERANCE:
        raise InputError(f"{name}: ImageOrientationPatient: expected two directions at right angles")
    normal = np.cross(across, down)
    places = np.array([one.position @ normal for one in slices])
    order = np.argsort(places, kind="stable")
    steps = np.diff(places[order])
    if not len(steps) or steps.min() < _SAME_PLACE_MM:
        raise InputError(f"{name}: several images at one place: expected each slice once")
    step = float(np.median(steps))
    if steps.max() > 1.5 * step:
        raise InputError(f"{name}: slices are missing: a gap is wider than the others")
    if np.abs(steps - step).max() > _GAP_TOLERANCE * step:
        raise InputError(f"{name}: the distances between its slices differ: expected a regular volume")
    ordered = [slices[index] for index in order]
    whole = ordered[-1].position - first_position(ordered)
    if np.linalg.norm(whole - normal * (whole @ normal)) > max(10 * _ANGLE_TOLERANCE * np.linalg.norm(whole), 0.5):
        raise InputError(f"{name}: its slices are not stacked at right angles (a tilted gantry)")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * first.spacing[0], down * first.spacing[1]
    affine[:3, 2], affine[:3, 3] = whole / (len(ordered) - 1), first_position(ordered)
    affine[:3] *= _TO_RAS[:, None]
    return ordered, affine


def first_position(ordered: list[Slice]) -> NDArray[np.float64]:
    """Where a stack begins, (3,) mm."""
    return ordered[0].position
