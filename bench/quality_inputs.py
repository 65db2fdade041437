"""Good heads, and what a client must not take for one: the inputs of ``bench/quality.py``.

Wrong inputs are made of the good heads and of the label maps: other contrasts, wrong headers, parts cut off, phantoms.
Each belongs to the person it is made of, so that limits are chosen on some people and reported on others.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.imaging.volume import Volume, load_volume

Image = NDArray[np.float32]

CURVES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "T2": ((0, 0.04, 0.2, 0.35, 0.65, 0.95, 1.2, 2), (0, 0.02, 1.0, 0.95, 0.55, 0.35, 0.5, 0.6)),
    "PD": ((0, 0.04, 0.2, 0.35, 0.65, 0.95, 1.2, 2), (0, 0.03, 0.95, 0.95, 0.85, 0.68, 0.8, 0.9)),
    "FLAIR": ((0, 0.1, 0.3, 0.65, 0.95, 1.2, 2), (0, 0.1, 0.15, 0.8, 0.62, 0.8, 0.9)),
    "infant": ((0, 0.1, 0.3, 0.65, 0.95, 1.2, 2), (0, 0.1, 0.3, 0.9, 0.7, 1.0, 1.2)),
    "FA": ((0, 0.1, 0.3, 0.65, 0.8, 0.95, 1.2, 2), (0, 0.05, 0.08, 0.15, 0.3, 0.6, 0.6, 0.2)),
}
"""Brightness of other contrasts by that in a T1-weighted scan whose white matter is .95."""

_HEADS = ("ds011-01", "ds011-02", "ds011-03", "pumi01", "uih-b_1mm", "qap3mm")

TISSUES = {
    "white": (2, 41, 7, 46, 16, 28, 60, 85, 25, 57),
    "grey": (3, 42, 8, 47, 17, 53, 18, 54),
    "nuclei": (10, 11, 12, 13, 49, 50, 51, 52, 26, 58),
    "csf": (4, 5, 14, 15, 43, 44, 72, 24, 136, 137, 163, 164),
}
LEVELS = {
    "T1": (0.95, 0.68, 0.76, 0.25),
    "T2": (0.38, 0.55, 0.45, 1.0),
    "PD": (0.68, 0.85, 0.78, 0.95),
    "FLAIR": (0.62, 0.8, 0.72, 0.15),
    "EPI": (0.5, 0.65, 0.5, 0.9),
    "PET": (0.35, 0.95, 1.0, 0.15),
    "FA": (0.55, 0.15, 0.25, 0.08),
    "infant": (0.7, 0.9, 0.9, 0.3),
}
"""Of white matter, grey matter, nuclei and CSF in painted label maps."""


@dataclass(frozen=True)
class Input:
    """A scan, of whom it is, and what is wrong with it: "" for a good head.

    ``brain_of``: a scan in the same grid in which the brain can be found, so that a check is also seen with a mask
    that is right.
    """

    name: str
    person: str
    wrong: str
    load: Callable[[], Volume]
    brain_of: Callable[[], Volume] | None = None


def good_heads(data: Path, more: list[Path]) -> Iterator[Input]:
    """Each T1-weighted head of adults once; of people scanned twice the first scan."""
    folders = {
        "ixi": sorted(data.glob("ixi_2mm/ixi???.nii.gz")),
        "ds002748": sorted(data.glob("ds002748/*/anat/*_T1w.nii.gz")),
        "oasis": sorted(data.glob("oasis_t1/*/ses-1/anat/*_T1w.nii.gz")),
        "heads": [data / "heads" / f"{name}.nii.gz" for name in _HEADS],
        "more": more,
    }  # fmt: skip
    for source, paths in folders.items():
        for path in paths:
            name = path.name.split(".")[0].removesuffix("_T1w")
            yield Input(f"{source}/{name}", name, "", lambda path=path: load_volume(path))  # type: ignore[misc]


def painted(data: Path) -> Iterator[Input]:
    """Every fifth label map painted as a contrast, and as it is."""
    for path in sorted(data.glob("brain_label_maps/*_dseg.nii.gz"))[::5]:
        person = path.name.removesuffix("_dseg.nii.gz")
        t1 = lambda path=path: paint(load_volume(path), "T1")  # type: ignore[misc] # noqa: E731
        for contrast in LEVELS:
            wrong = "" if contrast == "T1" else f"contrast {contrast}"
            load = lambda path=path, contrast=contrast: paint(load_volume(path), contrast)  # type: ignore[misc] # noqa: E731
            yield Input(f"painted/{person} {contrast}", person, wrong, load, None if contrast == "T1" else t1)
        yield Input(f"labels/{person}", person, "label map", lambda path=path: load_volume(path), t1)  # type: ignore[misc]


def paint(labels: Volume, contrast: str) -> Volume:
    """A scan of a label map: tissues and what is around them by their levels, blurred, with bias and noise."""
    values = labels.voxels.astype(np.int32)
    random = np.random.default_rng(zlib.crc32(f"{Path(labels.name).name} {contrast}".encode()))
    image = np.zeros(values.shape, np.float32)
    around = {"T1": 0.9, "FA": 0.1, "PET": 0.1}.get(contrast, 0.6)
    for label in np.unique(values):
        if label >= 100 and label not in TISSUES["csf"]:
            image[values == label] = around * random.uniform(0.1, 1.0)
    for level, tissue in zip(LEVELS[contrast], TISSUES.values(), strict=True):
        image[np.isin(values, tissue)] = level
    sigma = 3.0 if contrast in ("EPI", "PET") else 0.6
    image = ndimage.gaussian_filter(image, sigma)
    image *= np.exp(0.15 * _smooth(random, image.shape))
    image += 0.02 * random.standard_normal(image.shape, np.float32)
    return _with(labels, np.abs(image) * 1000)


def _smooth(random: np.random.Generator, shape: tuple[int, ...]) -> Image:
    field = ndimage.zoom(random.standard_normal((3, 3, 3)), [n / 3 for n in shape], order=3)
    return np.asarray(field[tuple(slice(n) for n in shape)], np.float32)


def _with(scan: Volume, voxels: Image, affine: NDArray[np.float64] | None = None) -> Volume:
    voxels = np.asfortranarray(voxels, np.float32)
    return Volume(voxels, scan.affine if affine is None else affine, None, scan.name)


def recoloured(scan: Volume, contrast: str) -> Volume:
    """An upright head's brightness mapped to that of another contrast."""
    v = np.clip(scan.voxels / _white_level(scan) * 0.95, 0, 2)
    return _with(scan, np.interp(v, *CURVES[contrast]).astype(np.float32) * 1000)


def _white_level(scan: Volume) -> float:
    """Brightness of white matter, which is about half of what lies around the middle of a brain."""
    box = _box(scan)
    middle = np.array([(box[0][0] + box[0][1]) / 2, (box[1][0] + box[1][1]) / 2, box[2][1] - 75 / scan.spacing_mm[2]])
    distance = (np.indices(scan.shape).reshape(3, -1).T - middle) * scan.spacing_mm
    around = scan.voxels.reshape(-1)[(distance**2).sum(axis=1) < 45**2]
    return float(np.percentile(around, 70))


def turned(scan: Volume, order: tuple[int, int, int], signs: tuple[int, int, int]) -> Volume:
    """The same voxels under a header that turns them: array axis ``order[n]`` becomes the n-th."""
    voxels = scan.voxels.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    spacing = scan.spacing_mm[list(order)]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(voxels.shape) - 1) / 2
    return _with(scan, voxels, affine)


def upright(scan: Volume) -> Volume:
    """Array axes to R, A, S."""
    axes = np.abs(scan.affine[:3, :3] / scan.spacing_mm).argmax(axis=1)
    signs = np.sign(scan.affine[range(3), axes]).astype(int)
    i, j, k = (int(a) for a in axes)
    return turned(scan, (i, j, k), (int(signs[0]), int(signs[1]), int(signs[2])))


TURNS = {
    "upside down": ((0, 1, 2), (1, 1, -1)),
    "front to back": ((0, 1, 2), (1, -1, 1)),
    "turned by 180": ((0, 1, 2), (1, -1, -1)),
    "on its side": ((2, 1, 0), (1, 1, 1)),
    "on its back": ((0, 2, 1), (1, 1, -1)),
    "on its face": ((0, 2, 1), (1, 1, 1)),
    "axes P, I, R": ((1, 2, 0), (-1, -1, 1)),
    "axes exchanged": ((1, 0, 2), (1, 1, 1)),
}


def cut(scan: Volume, axis: int, low: float, high: float, *, fill: bool) -> Volume:
    """A part of the extent of what is not air; the rest gone, or set to 0 with ``fill``."""
    box = _box(scan)
    first, last = box[axis]
    length = last - first
    start, stop = first + round(low * length), first + round(high * length)
    keep = tuple(slice(start, stop) if a == axis else slice(None) for a in range(3))
    if fill:
        voxels = np.zeros_like(scan.voxels)
        voxels[keep] = scan.voxels[keep]
        return _with(scan, voxels)
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, axis] * start
    return _with(scan, scan.voxels[keep], affine)


def _box(scan: Volume) -> list[tuple[int, int]]:
    bright = scan.voxels > 0.15 * np.percentile(scan.voxels, 99.5)
    found = []
    for axis in range(3):
        count = np.count_nonzero(bright, axis=tuple(a for a in range(3) if a != axis))
        filled = np.flatnonzero(count > 0.02 * bright.size / bright.shape[axis])
        found.append((int(filled[0]), int(filled[-1]) + 1))
    return found


def thick(scan: Volume, axis: int, mm: float) -> Volume:
    """Slices of another thickness."""
    n = max(2, round(mm / scan.spacing_mm[axis]))
    length = scan.voxels.shape[axis] // n * n
    voxels = np.take(scan.voxels, range(length), axis)
    shape = [*voxels.shape[:axis], length // n, n, *voxels.shape[axis + 1 :]]
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (n - 1) / 2
    affine[:3, axis] *= n
    return _with(scan, voxels.reshape(shape).mean(axis + 1), affine)


def made_wrong(head: Input, turns: bool = True) -> Iterator[Input]:
    """Wrong inputs from a good head."""

    def of(wrong: str, change: Callable[[Volume], Volume], *, mask: bool = False) -> Input:
        return Input(
            f"{head.name} {wrong}", head.person, wrong, lambda: change(upright(head.load())),
            (lambda: upright(head.load())) if mask else None,
        )  # fmt: skip

    for contrast in CURVES:
        yield of(f"contrast {contrast}", lambda scan, c=contrast: recoloured(scan, c), mask=True)  # type: ignore[misc]
    for name, (order, signs) in TURNS.items():
        yield of(name, lambda scan, o=order, s=signs: turned(scan, o, s))  # type: ignore[misc]
    yield of("cut at half height", lambda scan: cut(scan, 2, 0.0, 0.62, fill=False))
    yield of("upper half only", lambda scan: cut(scan, 2, 0.62, 1.0, fill=False))
    yield of("crown cut off", lambda scan: cut(scan, 2, 0.0, 0.85, fill=False))
    yield of("left side outside", lambda scan: cut(scan, 0, 0.25, 1.0, fill=False))
    yield of("left half outside", lambda scan: cut(scan, 0, 0.5, 1.0, fill=False))
    yield of("left side zeroed", lambda scan: cut(scan, 0, 0.25, 1.0, fill=True))
    yield of("back outside", lambda scan: cut(scan, 1, 0.25, 1.0, fill=False))
    yield of("8 mm slices", lambda scan: thick(scan, 2, 8.0))
    yield of("newborn's size", lambda scan: replace(scan, affine=np.diag([0.55, 0.55, 0.55, 1]) @ scan.affine))
    yield of("1.4 times the size", lambda scan: replace(scan, affine=np.diag([1.4, 1.4, 1.4, 1]) @ scan.affine))


def phantoms() -> Iterator[Input]:
    """What is no head at all."""
    affine = np.diag([1.0, 1.0, 1.0, 1.0])

    def cylinder(seed: int) -> Volume:
        shape = (200, 200, 70 + 30 * seed)
        x, y, z = np.indices(shape)
        inside = ((x - 100) ** 2 + (y - 100) ** 2 < (90 - 8 * seed) ** 2) & (abs(z - shape[2] / 2) < shape[2] / 2 - 5)
        voxels = np.abs(inside * 600 + np.random.default_rng(seed).normal(0, 6, shape))
        return Volume(np.asfortranarray(voxels, np.float32), affine, None, "cylinder")

    def noise(seed: int) -> Volume:
        n = 64 + 32 * seed
        voxels = np.random.default_rng(seed).uniform(0, 1000, (n, n, n))
        return Volume(np.asfortranarray(voxels, np.float32), np.diag([*[2.5] * 3, 1.0]), None, "noise")

    def ball(seed: int) -> Volume:
        random = np.random.default_rng(seed)
        r = np.sqrt(((np.indices((180, 220, 180)) - np.array([90, 110, 90])[:, None, None, None]) ** 2
                     / np.array([1, 1.4, 1])[:, None, None, None]).sum(0))  # fmt: skip
        voxels = 800 * (r < 70) * (1 + 0.2 * _smooth(random, r.shape)) - 500 * (r < 20)
        voxels = np.abs(ndimage.gaussian_filter(voxels, 2.0) + random.normal(0, 15, r.shape))
        return Volume(np.asfortranarray(voxels, np.float32), affine, None, "ball")

    for seed in (0, 1):
        for name, make in (("water cylinder", cylinder), ("uniform noise", noise), ("hollow ball", ball)):
            yield Input(f"{name} {seed}", f"{name} {seed}", name, lambda make=make, seed=seed: make(seed))  # type: ignore[misc]


def real_wrong(data: Path) -> Iterator[Input]:
    """Real scans that are not what the bundle is for, or not the whole of it."""
    heads = {
        "misorient": "on its side (real)",
        "glioma-2": "6.5 mm slices (real)",
        "ms01-s1": "crown outside (real)",
        "stripped-child-11months": "infant (real)",
    }
    for name, wrong in heads.items():
        path = data / "heads" / f"{name}.nii.gz"
        yield Input(f"heads/{name}", name, wrong, lambda path=path: load_volume(path))  # type: ignore[misc]
    for folder in sorted(data.glob("brats2013/*")):
        path = folder / "Flair_subtrMeanDivStd.nii.gz"
        yield Input(f"brats/{folder.name}", folder.name, "FLAIR (real)", lambda path=path: load_volume(path))  # type: ignore[misc]
        tumour = folder / "OTMultiClass.nii.gz"
        yield Input(f"tumour/{folder.name}", folder.name, "tumour mask", lambda path=tumour: load_volume(path))  # type: ignore[misc]
