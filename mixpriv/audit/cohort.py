"""Whose scans are attacked: a cohort, its visits, and who belongs to the attacker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.audit.images import displaced
from mixpriv.bundle import Bundle
from mixpriv.datasets import kind_of, labels_beside
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.preprocessor import Preprocessor
from mixpriv.imaging.resample import Conformed, conform_labels
from mixpriv.imaging.volume import load_volume
from mixpriv.key import content_digest
from mixpriv.labels import Labelling
from mixpriv.protection.fields import smooth_field
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.mixing import normalised
from mixpriv.timing import Timings

MIRRORED = "-mirrored"
"""End of the name of a made-up person: a real one's mirror image, whose folds are those of nobody else."""

ENOUGH_PEOPLE = 40
"""From so many on nobody is made up."""


@dataclass(frozen=True)
class Visit:
    """One scan of a person, as the client's conforming makes it; ``labels`` (D, H, W) uint8 where they are known."""

    subject: str
    name: str
    content: bytes = field(repr=False)
    conformed: Conformed = field(repr=False)
    labels: NDArray[np.uint8] | None = field(default=None, repr=False)

    @property
    def image(self) -> NDArray[np.float32]:
        """The normalised brain, what mode ``none`` would send."""
        return np.asarray(normalised(self.conformed)[0], np.float32)


@dataclass(frozen=True)
class Cohort:
    """``queries``: visits that are sent. ``gallery``: other visits of these people, and of others, the attacker holds.

    ``known``: visits of people who appear in neither; on them the attacker learns. ``repeated``: names of the queries
    whose gallery visit is a scan of another day, none where every second visit is simulated.
    """

    queries: tuple[Visit, ...]
    gallery: tuple[Visit, ...]
    known: tuple[Visit, ...]
    repeated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        subjects = {visit.subject for visit in (*self.queries, *self.gallery)}
        if subjects & {visit.subject.removesuffix(MIRRORED) for visit in self.known}:
            raise InputError("cohort: expected the attacker's own to be others than those attacked")

    def chance(self) -> float:
        """Share of the gallery that is right for a query, the mean over the queries."""
        subjects = [visit.subject for visit in self.gallery]
        return float(np.mean([subjects.count(query.subject) / len(subjects) for query in self.queries]))


def scans_in(folder: Path) -> list[Path]:
    """All ``sub-*/**/*_T1w.nii.gz``; InputError if there is none."""
    scans = sorted(folder.glob("sub-*/**/*_T1w.nii.gz"))
    if not scans:
        raise InputError(f"{folder}: expected scans named sub-*/**/*_T1w.nii.gz, got none")
    return scans


def read_visits(folder: Path, preprocess: Preprocessor, bundle: Bundle, most: int | None = None) -> list[Visit]:
    """Conform `scans_in` a folder, the first ``most``, with the label map beside each if there is one for it."""
    visits = []
    for path in scans_in(folder)[:most]:
        name = path.name.removesuffix("_T1w.nii.gz")
        labels = labels_beside(path, kind_of(bundle))
        visits.append(_read(name.split("_")[0], name, path, labels, preprocess, bundle))
    return visits


def read_held_out(folder: Path, preprocess: Preprocessor, bundle: Bundle) -> list[Visit]:
    """Conform the crops of ``imagesTr`` that the bundle's training held out, each a person's, labels in ``labelsTr``.

    Raises
    ------
    InputError
        the bundle is not for crops or does not tell which were held out, or there is none.
    """
    if bundle.crop is None:
        raise InputError(f"{folder}: bundle {bundle.name} is for heads: expected sub-*/**/*_T1w.nii.gz, got imagesTr")
    config = bundle.extra.get("config") or {}
    every = (config.get("region") or {}).get("held_out_every")
    if every is None:  # all of them may have been trained on
        raise InputError(f"bundle {bundle.name}: expected its config to tell which crops were held out, got none")
    scans = sorted((folder / "imagesTr").glob("[!.]*.nii.gz"))[every - 1 :: every]
    if not scans:
        raise InputError(f"{folder}: expected crops in imagesTr, got none that were held out")
    visits = []
    for path in scans:
        name = path.name.removesuffix(".nii.gz")
        visits.append(_read(name, name, path, folder / "labelsTr" / path.name, preprocess, bundle))
    return visits


def _read(subject: str, name: str, path: Path, labels_path: Path, preprocess: Preprocessor, bundle: Bundle) -> Visit:
    scan = load_volume(path)
    target = preprocess(scan, Timings())
    labels = None
    if labels_path.is_file():
        labels = conform_labels(load_volume(labels_path), target.grid, Labelling.of(bundle)) * target.mask
    return Visit(subject, name, content_digest(scan.voxels, scan.affine), target, labels)


def mirror(visit: Visit) -> Visit:
    """A made-up person: left and right exchanged."""
    target = replace(
        visit.conformed,
        images=np.ascontiguousarray(visit.conformed.images[:, ::-1]),
        mask=np.ascontiguousarray(visit.conformed.mask[::-1]),
    )
    labels = None if visit.labels is None else np.ascontiguousarray(visit.labels[::-1])
    name = visit.subject + MIRRORED
    return Visit(name, visit.name + MIRRORED, bytes(reversed(visit.content)), target, labels)


def rescan(visit: Visit, number: int) -> Visit:
    """Simulate another visit: pose, small distortion, partial volume, bias, contrast, noise, another edge of the mask.

    The scan's own noise is smoothed away first, so that the two visits do not share it. The same number gives the same
    rescan.
    """
    stream = Keystream(_seed(visit.content, number))
    spacing = float(visit.conformed.grid.spacing_mm.mean())
    image, mask = visit.conformed.image, visit.conformed.mask
    ((low, high),) = visit.conformed.intensity_ranges
    shape = (image.shape[0], image.shape[1], image.shape[2])
    clean = ndimage.gaussian_filter((image - low) / (high - low), 0.5)
    moves = _pose(stream, shape, spacing)
    share = ndimage.gaussian_filter(mask.astype(np.float32), 0.7)
    moved = displaced(np.stack([clean, share]).astype(np.float32), moves)
    gamma, bias, noise = stream.uniform(size=3)
    seen = np.clip(moved[0], 0, 1.5) ** np.float32(0.85 + 0.3 * gamma)
    seen *= 1 + np.float32(0.04 + 0.08 * bias) * smooth_field(stream, shape, 30 / spacing)
    seen += np.float32(0.01 + 0.02 * noise) * stream.normal(shape)
    rim = 0.5 + 0.15 * np.tanh(smooth_field(stream, shape, 6 / spacing))
    inside = moved[1] > rim
    limits = np.percentile(seen[inside], (0.5, 99.5))
    labels = None if visit.labels is None else _nearest(visit.labels, moves) * inside.astype(np.uint8)
    target = replace(
        visit.conformed,
        images=seen.astype(np.float32)[None],
        mask=inside.astype(np.uint8),
        intensity_ranges=((float(limits[0]), float(limits[1])),),
    )
    return Visit(visit.subject, f"{visit.name} rescan {number}", _seed(visit.content, number + 1000), target, labels)


def _nearest(labels: NDArray[np.uint8], moves: NDArray[np.float32]) -> NDArray[np.uint8]:
    at = [np.arange(n, dtype=np.float32) for n in labels.shape]
    points = moves + np.stack(np.meshgrid(*at, indexing="ij"))
    return np.asarray(ndimage.map_coordinates(labels, points, order=0), np.uint8)


def _seed(content: bytes, number: int) -> bytes:
    return hashlib.sha256(content + number.to_bytes(8, "little")).digest()


def _pose(stream: Keystream, shape: tuple[int, int, int], spacing_mm: float) -> NDArray[np.float32]:
    """Displacements (3, D, H, W) in voxels: up to 3 degrees, 2 mm and 2 %, and 0.5 mm of smooth distortion."""
    turn = np.deg2rad(stream.uniform(-3, 3, 3))
    linear = np.diag(stream.uniform(-0.02, 0.02, 3)) + np.array(
        [[0, -turn[2], turn[1]], [turn[2], 0, -turn[0]], [-turn[1], turn[0], 0]]
    )
    shift = stream.uniform(-2, 2, 3) / spacing_mm
    index = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape), indexing="ij"))
    moves = np.tensordot(linear, index, 1) + shift[:, None, None, None]
    distortion = np.stack([smooth_field(stream, shape, 20 / spacing_mm) for _ in range(3)])
    return np.asarray(moves + 0.5 / spacing_mm * distortion, np.float32)


def simulate(visits: Sequence[Visit], attackers: int = 0, rescans: int = 2, *, as_is: bool = False) -> Cohort:
    """Make people from few visits: each one's second visit is real if there is one, else a rescan.

    The gallery holds, of every person, the second visit and further rescans of it, ``rescans`` in all; of fewer than
    `ENOUGH_PEOPLE` their mirror images', too. The last ``attackers`` of those without a real second visit belong to
    the attacker. ``as_is``: it is the scans themselves that are sent, not rescans of them.
    """
    of: dict[str, list[Visit]] = {}
    for visit in visits:
        of.setdefault(visit.subject, []).append(visit)
    once = [subject for subject, own in of.items() if len(own) == 1]
    known = once[len(once) - attackers :] if attackers else []
    mirrors = len(of) < ENOUGH_PEOPLE
    queries, gallery, repeated = [], [], []
    for subject, own in of.items():
        if subject in known:
            continue
        if len(own) > 1:
            queries.append(own[0])
            repeated.append(own[0].name)
            second = [own[1], *(rescan(own[1], n) for n in range(1, rescans))]
        else:
            queries.append(own[0] if as_is else rescan(own[0], 0))
            second = [rescan(own[0], n) for n in range(1, rescans + 1)]
        gallery += second
        gallery += [mirror(visit) for visit in second] if mirrors else []
    return Cohort(
        tuple(queries),
        tuple(gallery),
        tuple(visit for subject in known for visit in (of[subject][0], *([mirror(of[subject][0])] if mirrors else []))),
        tuple(repeated),
    )
