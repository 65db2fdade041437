"""Reference images that belong to nobody: drawn from a small statistical model by a keyed stream.

The model is the mean label-probability atlas of the training label maps plus an intensity table for each modality. A
draw picks folded tissues (CSF < cortex < white matter) by the quantile of a band-pass Gaussian field, other structures
by a smoothly jittered threshold, warps the labels smoothly, puts a blob into them where the model has tumours, and
paints them. The label map is exact by construction and the image exists nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from mixpriv import kernels
from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.imaging.resample import box_around
from mixpriv.protection.fields import band_pass, resample_evenly, smooth_field
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference_file import ArrayError, check_model, read_arrays
from mixpriv.protection.warp import smooth_displacement

BLOB_RADIUS_MM = (10.0, 30.0)
_BLOB_SIGMA_MM = 8.0
_BLOB_ROUGHNESS = 0.35  # standard deviation of the blob's surface, of its radius
_BLOB_DEPTH = (0.1, 0.8)  # of its radius, where further layers begin


@dataclass(frozen=True)
class Reference:
    """A reference in the bundle's grid.

    ``images``: (M, D, H, W) float32 in [0, 1], zero outside ``mask``. ``labels``: (D, H, W) uint8 tissue values.
    ``mask``: (D, H, W) uint8, 1 inside the reference's own brain.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]
    mask: NDArray[np.uint8]

    @property
    def image(self) -> NDArray[np.float32]:
        """The first modality, (D, H, W)."""
        first: NDArray[np.float32] = self.images[0]
        return first


@dataclass(frozen=True)
class ReferenceModel:
    """The shipped statistics.

    ``atlas``: (K, D', H', W') uint8, mean probability x255 of K intensity classes (0 is background) on a grid with
    ``step`` bundle voxels per atlas voxel. ``tissue_of``: (K+B,) tissue value per class; the B classes beyond the atlas
    are the layers of a blob, from outside in. ``fold_rank``: (K,) place in the folding order (0 CSF, 1 cortex, 2 white
    matter), -1 for what does not fold, the background among it. ``intensity_range``: (K+B, 2) of the first modality,
    for T1 relative to white matter; ``further_ranges``: of the others. ``warp_mm``: standard deviation of the shape
    variation.
    """

    atlas: NDArray[np.uint8]
    step: float
    tissue_of: NDArray[np.uint8]
    fold_rank: NDArray[np.int8]
    intensity_range: NDArray[np.float32]
    warp_mm: float
    grid_shape: tuple[int, int, int]
    spacing_mm: float
    further_ranges: tuple[NDArray[np.float32], ...] = ()

    @property
    def intensity_ranges(self) -> tuple[NDArray[np.float32], ...]:
        """The table (K+B, 2) of each modality."""
        return (self.intensity_range, *self.further_ranges)

    @staticmethod
    def load(path: str | PathLike[str]) -> ReferenceModel:
        """Read a model written by :meth:`save`; InputError when the file is missing or not such a model."""
        try:
            f = read_arrays(path)
            f.setdefault("further_ranges", np.zeros(0))
            check_model(f)
        except ArrayError as error:
            raise InputError(f"{path}: not a reference model ({error})") from None
        except InputError as error:
            raise InputError(f"{path}: not a reference model ({str(error).removeprefix(f'{path}: ')})") from None
        d, h, w = (int(n) for n in f["grid_shape"])
        return ReferenceModel(
            f["atlas"], float(f["step"]), f["tissue_of"], f["fold_rank"], f["intensity_range"],
            float(f["warp_mm"]), (d, h, w), float(f["spacing_mm"]), tuple(f["further_ranges"]),
        )  # fmt: skip

    @staticmethod
    def of(bundle: Bundle) -> ReferenceModel:
        """Read a bundle's; InputError also when it is of another bundle."""
        path = bundle.reference_path
        model = ReferenceModel.load(path)
        found = model.grid_shape, model.spacing_mm, len(model.intensity_ranges)
        wanted = bundle.grid_shape, bundle.spacing_mm, len(bundle.modalities)
        if found != wanted or model.tissue_of.max() >= len(bundle.classes):
            raise InputError(f"{path}: not a reference model of this bundle: other grid, classes or modalities")
        return model

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model as a compressed .npz."""
        np.savez_compressed(
            path, atlas=self.atlas, step=self.step, tissue_of=self.tissue_of, fold_rank=self.fold_rank,
            intensity_range=self.intensity_range, warp_mm=self.warp_mm, grid_shape=self.grid_shape,
            spacing_mm=self.spacing_mm, further_ranges=np.array(self.further_ranges),
        )  # fmt: skip

    def in_grid(self, channel: NDArray[np.generic]) -> NDArray[np.float32]:
        """Sample a map on the atlas' grid in the bundle's grid (D, H, W), linear."""
        scale = 1.0 / self.step
        return resample_evenly(channel.astype(np.float32), scale, 0.5 * scale - 0.5, self.grid_shape)

    def average(self) -> NDArray[np.float32]:
        """Mean probability of each tissue in the bundle's grid (C, D, H, W): the anatomy that everybody knows."""
        atlas, tissue_of = self.atlas.astype(np.float32) / 255, self.tissue_of[: len(self.atlas)]
        values = range(int(self.tissue_of.max()) + 1)
        return np.stack([self.in_grid(atlas[tissue_of == value].sum(axis=0)) for value in values])

    @cached_property
    def _dense(self) -> _DenseAtlas:
        """The atlas at the bundle's resolution, at the voxels where a brain can be; made once per process."""
        return _DenseAtlas(self)


class _DenseAtlas:
    """Per-voxel tables of a model: ``inside`` (grid, bool) and, for its V voxels, what the draw compares with noise."""

    def __init__(self, model: ReferenceModel) -> None:
        self.inside = model.in_grid(model.atlas[0]) < 254.0
        probability = np.stack([model.in_grid(channel)[self.inside] for channel in model.atlas])
        probability /= np.maximum(probability.sum(0), 1e-6)
        rank = model.fold_rank
        solid = np.flatnonzero(rank < 0)
        self.solid_probability = probability[solid].sum(0)
        self.solid_class = solid[probability[solid].argmax(0)].astype(np.uint8)
        groups = [np.flatnonzero(rank == r) for r in range(int(rank.max()) + 1)]
        mass = np.stack([probability[g].sum(0) for g in groups])
        mass /= np.maximum(mass.sum(0), 1e-6)
        self.thresholds = np.cumsum(mass, 0)[:-1].astype(np.float32)
        self.group_class = np.stack([g[probability[g].argmax(0)] for g in groups]).astype(np.uint8)


def draw_labels(model: ReferenceModel, stream: Keystream) -> NDArray[np.uint8]:
    """Draw an intensity-class map (D, H, W) uint8 in the bundle's grid."""
    dense, shape = model._dense, model.grid_shape
    sigma_mm, margin = stream.uniform(2.3, 3.3)[0], stream.uniform(0.1, 0.3)[0]
    fold = band_pass(stream.normal(shape), (sigma_mm / model.spacing_mm, 1.6 * sigma_mm / model.spacing_mm))
    quantile = special.ndtr(fold[dense.inside])
    group = (quantile[None] > dense.thresholds).sum(0)
    chosen = np.take_along_axis(dense.group_class, group[None], 0)[0]
    jitter = smooth_field(stream, shape, 6.0 / model.spacing_mm)[dense.inside]
    solid = dense.solid_probability > 0.5 + margin * np.tanh(jitter)
    labels = np.zeros(shape, np.uint8)
    labels[dense.inside] = np.where(solid, dense.solid_class, chosen)
    labels = _warp(labels, model, stream)
    return _with_blob(labels, model, stream) if len(model.tissue_of) > len(model.atlas) else labels


def _warp(labels: NDArray[np.uint8], model: ReferenceModel, stream: Keystream) -> NDArray[np.uint8]:
    amplitude = stream.uniform(0.5, 1.5)[0] * model.warp_mm / model.spacing_mm
    control, control_spacing = smooth_displacement(stream, model.grid_shape, model.spacing_mm)
    return kernels.warp_labels(labels, control * np.float32(amplitude), control_spacing)


def _with_blob(labels: NDArray[np.uint8], model: ReferenceModel, stream: Keystream) -> NDArray[np.uint8]:
    """Grow a rough ball around a random voxel of white matter, inside the brain, in layers of one class each."""
    shape, spacing = model.grid_shape, model.spacing_mm
    white = np.flatnonzero(np.isin(labels, np.flatnonzero(model.fold_rank == model.fold_rank.max())))
    if white.size == 0:
        raise InputError("reference: expected a drawing with white matter in it, got none")
    centre = np.unravel_index(white[int(stream.uniform()[0] * white.size)], shape)
    radius = stream.uniform(*BLOB_RADIUS_MM)[0] / spacing
    layers = range(len(model.atlas), len(model.tissue_of))
    begins = [0.0, *np.sort(stream.uniform(*_BLOB_DEPTH, len(layers) - 1))]
    squared = sum(np.square(axis - c) for axis, c in zip(np.ogrid[tuple(map(slice, shape))], centre, strict=True))
    depth = 1 - np.sqrt(squared) / radius + _BLOB_ROUGHNESS * smooth_field(stream, shape, _BLOB_SIGMA_MM / spacing)
    depth[labels == 0] = -1
    for layer, begin in zip(layers, begins, strict=True):
        labels[depth > begin] = layer
    return labels


def paint(
    labels: NDArray[np.uint8], intensity_range: NDArray[np.float32], spacing_mm: float, stream: Keystream
) -> NDArray[np.float32]:
    """Intensities for an intensity-class map: class means, texture, blur and a bias field; (D, H, W) float32 in [0, 1].

    Zero outside the labels. Class means come from ``intensity_range`` (K, 2), half of the draw shared by all classes.
    """
    low, high = intensity_range[:, 0], intensity_range[:, 1]
    share, texture, blur, bias = stream.uniform(size=4)
    own = stream.uniform(size=len(low)).astype(np.float32)
    means = low + (high - low) * (0.5 * np.float32(share) + 0.5 * own)
    if not labels.any():
        raise InputError("reference: expected a drawing with brain in it, got none")
    box = box_around(labels > 0)
    drawn = labels[box]
    mask = drawn > 0
    shape = (drawn.shape[0], drawn.shape[1], drawn.shape[2])
    image = means[drawn]
    image += stream.normal(shape) * np.float32(0.015 + 0.03 * texture)
    image[~mask] = 0
    image = ndimage.gaussian_filter(image, (0.4 + 0.5 * blur) * 1.5 / spacing_mm, mode="constant", truncate=2.5)
    image *= 1 + np.float32(0.12 * bias) * smooth_field(stream, shape, 30.0 / spacing_mm)
    inside = image[mask]
    every = max(1, inside.size // 50000)
    lo, hi = np.percentile(inside[::every], (0.5, 99.5))
    result = np.zeros(labels.shape, np.float32)
    result[box][mask] = np.clip((inside - lo) / max(hi - lo, 1e-6), 0, 1)
    return result


def draw_reference(model: ReferenceModel, stream: Keystream) -> Reference:
    """Draw one reference: images, exact tissue labels and mask, all (D, H, W) of the bundle's grid."""
    classes = draw_labels(model, stream)
    images = np.stack([paint(classes, table, model.spacing_mm, stream) for table in model.intensity_ranges])
    return Reference(images, model.tissue_of[classes], (classes > 0).astype(np.uint8))
