"""What a scan's numbers mean: where its air lies, which voxels hold no data, and whether they are Hounsfield values.

Nothing here depends on a scan's extremes, which a single voxel sets, nor on air being 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import InputError
from mixpriv.imaging.resample import upright
from mixpriv.imaging.volume import Volume

_SAMPLES = 60_000  # of the voxels are looked at, evenly spread
_AIR_PERCENT = 1.0  # of the voxels are darker than what counts as air: more than stray ones
_FACES_SHARE = 0.05  # of the voxels on the faces have a value that pads; air is noisy, or near what pads it
_DARK, _BRIGHT = 5.0, 99.5  # percentiles of what is no padding; interpolation blurs padding into a shell of 3 %
_NEAR = 0.1  # of that range
_OWN_AIR = 0.25  # of what is no padding lies as near to its dark end if air is among it
_BELOW = 2.5  # of that range: the background of a stripped brain lies no farther below it

_AIR_HU = (-1100.0, -900.0)
_AIR_HU_SHARE = 0.01
_BODY_HU = -200.0  # half of a body, at least, is denser
_BOX_FILLED = 0.58  # an ellipsoid fills .52 of the box around it, a field of view turned by 20 degrees .61
_BOX_HOLES = 0.01


@dataclass(frozen=True)
class _Contents:
    """Of what is no padding: its dark and bright end and the share that is about as dark as its dark end."""

    dark: float
    bright: float
    air_share: float

    @property
    def range(self) -> float:
        return self.bright - self.dark


def with_air_at_zero(scan: Volume) -> Volume:
    """Shift a scan so that its air is 0, with air where it has no data; the scan itself if that is so already.

    Outside the field of view every later step sees 0. What pads a field of view (one value on its faces, far from the
    rest) is no data: -1024 after a rotation, 0 around a face that was taken away from a scan whose air is 50.

    Raises
    ------
    InputError
        Hounsfield values: the scan is a CT.
    """
    _refuse_hounsfield(scan.modalities[0])
    images = [_with_air_at_zero(modality) for modality in scan.modalities]
    if all(image is modality.voxels for image, modality in zip(images, scan.modalities, strict=True)):
        return scan
    voxels = images[0] if scan.voxels.ndim == 3 else np.asfortranarray(np.stack(images, axis=-1))
    return replace(scan, voxels=voxels, known_ranges=None)


def _with_air_at_zero(modality: Volume) -> NDArray[np.float32]:
    voxels, sample = modality.voxels, _sample(modality)
    paddings, dark = _paddings(sample, _face_values(voxels))
    for value in paddings:
        if value < dark:  # perhaps blurred into its neighbours: what is darker than air goes with it
            voxels, sample = np.maximum(voxels, dark), np.maximum(sample, dark)
        else:
            darkest = np.float32(np.percentile(sample[sample != value], _AIR_PERCENT))
            voxels, sample = (np.where(image == value, darkest, image) for image in (voxels, sample))
    air = np.float32(np.percentile(sample, _AIR_PERCENT))
    return voxels if air == 0 else np.asfortranarray(voxels - air)


def _paddings(sample: NDArray[np.float32], on_faces: NDArray[np.float32]) -> tuple[list[np.float32], np.float32]:
    """Of the values that fill the faces those that are no data, and the dark end of what is."""
    data = ~np.isin(sample, on_faces)
    contents = _contents_of(sample[data])
    paddings: list[np.float32] = []
    if contents is None:
        return paddings, np.float32(0)
    dark = contents.dark
    for value in sorted(on_faces, key=lambda value: abs(float(value) - dark)):
        if not _is_air(float(value), contents):
            paddings.append(value)
            continue
        data |= sample == value
        with_it = _contents_of(sample[data])
        if with_it is None:
            break
        contents = with_it
    return paddings, np.float32(contents.dark)


def _every(voxels: NDArray[np.float32]) -> slice:
    """Steps along each axis that leave about as many voxels as are looked at."""
    return slice(None, None, max(1, round((voxels.size / _SAMPLES) ** (1 / 3))))


def _sample(modality: Volume) -> NDArray[np.float32]:
    """Voxels from all over a scan, the same ones of a flipped copy."""
    flips, _ = upright(modality)
    every = _every(modality.voxels)
    return modality.voxels[flips][every, every, every].ravel(order="K")


def _face_values(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values that many voxels on the faces of the field of view share."""
    every = _every(voxels)
    faces = [voxels[(every,) * axis + (end,) + (every,) * (2 - axis)].ravel() for axis in range(3) for end in (0, -1)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    return np.asarray(values[counts >= _FACES_SHARE * counts.sum()])


def _contents_of(values: NDArray[np.float32]) -> _Contents | None:
    """None if there is nothing but padding, or nothing that differs."""
    if not len(values):
        return None
    dark, bright = (float(end) for end in np.percentile(values, (_DARK, _BRIGHT)))
    air = float(np.count_nonzero(values <= dark + _NEAR * (bright - dark))) / len(values)
    return _Contents(dark, bright, air) if dark < bright else None


def _is_air(value: float, contents: _Contents) -> bool:
    """Whether a value that fills the faces can stay: that of air, or of what was taken away around a brain."""
    if abs(value - contents.dark) <= _NEAR * contents.range:
        return True
    return contents.air_share < _OWN_AIR and contents.dark - _BELOW * contents.range <= value < contents.dark


def _refuse_hounsfield(scan: Volume) -> None:
    """Tell a CT by its air, which no magnetic resonance image has, around and in a body denser than that."""
    low, high = _AIR_HU
    if scan.lowest > high:
        return
    voxels = scan.voxels
    air = (voxels >= low) & (voxels <= high)
    share = np.count_nonzero(air) / voxels.size
    body = voxels[voxels > high]
    if share < _AIR_HU_SHARE or not body.size or np.median(body) < _BODY_HU:
        return
    on_faces = _face_values(voxels)
    contents = ~np.isin(voxels, on_faces[(on_faces >= low) & (on_faces <= high)])
    if np.count_nonzero(air & contents) < _AIR_HU_SHARE * voxels.size and _is_box(contents):
        return  # a border of such a value around a field of view
    raise InputError(
        f"{scan.name}: no brain found: expected a T1-weighted head scan, got what looks like a CT "
        f"({100 * share:.0f} % of the voxels are Hounsfield values of air)"
    )


def _is_box(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask is a field of view, perhaps turned, and not a head: it fills its box and has no hollows."""
    for axis in range(3):
        mask = np.compress(mask.any(axis=tuple(a for a in range(3) if a != axis)), mask, axis)
    count = np.count_nonzero(mask)
    if count < _BOX_FILLED * mask.size:
        return False
    hollow = np.zeros_like(mask)
    for axis in range(3):
        after = np.logical_or.accumulate(mask, axis)
        before = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis), axis)
        hollow |= after & before & ~mask
    return bool(np.count_nonzero(hollow) <= _BOX_HOLES * count)
