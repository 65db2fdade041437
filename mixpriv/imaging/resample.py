"""Between a scan's own grid and the grids of the networks: each step forward beside its inverse.

Arrays of a scan are in Fortran order, as in the file; the kernels want C order. Instead of copying, the array is handed
over transposed, flipped axes and all, and the matrix with its axes reversed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.bundle import Bundle
from mixpriv.imaging.alignment import grid_to_world, mask_moments_mm
from mixpriv.imaging.device import CPU, Device
from mixpriv.imaging.volume import Image, Volume
from mixpriv.labels import Labelling

_REVERSE = [2, 1, 0]

Evened = Callable[[NDArray[np.float32], NDArray[np.uint8], "Grid"], NDArray[np.float32]]
"""An image (D, H, W), a mask and the grid of both to the image without its bias, or the image itself."""


@dataclass(frozen=True)
class Grid:
    """A box of samples: its shape (D, H, W) along R, A, S and the affine (4, 4) from its index to world mm.

    Examples
    --------
    >>> Grid((64, 80, 64), np.diag([2.0, 2.0, 2.0, 1.0])).voxel_ml
    0.008
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64] = field(repr=False)

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance of neighbouring samples along each axis, (3,) mm."""
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))

    @property
    def voxel_ml(self) -> float:
        """Volume of a sample, ml."""
        return float(np.prod(self.spacing_mm)) / 1000.0


@dataclass(frozen=True)
class Conformed:
    """A scan in the bundle's grid, on the client's side only: the image may still show the whole head.

    Attributes
    ----------
    images : (M, D, H, W) float32, the scan's own intensities; all modalities share mask and grid
    mask : (D, H, W) uint8, 1 in the brain, or in a crop's field of view
    intensity_ranges : robust minimum and maximum of each modality inside the mask
    grid : where it lies
    device : where it is mixed
    unsure : voxels that are neither clearly brain nor clearly not, as a share of the mask; None if nothing says so
    placed : images, each (D, H, W), and mask as they lie on the device; None if they are not there yet, and in a
        changed copy
    """

    images: NDArray[np.float32] = field(repr=False)
    mask: NDArray[np.uint8] = field(repr=False)
    intensity_ranges: tuple[tuple[float, float], ...] = field(repr=False)
    grid: Grid
    device: Device = field(default=CPU, repr=False)
    unsure: float | None = field(default=None, repr=False)
    placed: tuple[Sequence[Any], Any] | None = field(default=None, init=False, repr=False)

    def with_placed(self, images: Sequence[Any], mask: Any) -> Conformed:
        """The same, knowing the arrays that already lie on the device."""
        known = replace(self)
        object.__setattr__(known, "placed", (images, mask))
        return known

    def with_unsure(self, unsure: float) -> Conformed:
        """The same, knowing how unsure its mask is; the arrays on the device stay."""
        known = replace(self, unsure=unsure)
        object.__setattr__(known, "placed", self.placed)
        return known

    @property
    def image(self) -> NDArray[np.float32]:
        """The first modality, (D, H, W)."""
        first: NDArray[np.float32] = self.images[0]
        return first

    @property
    def mask_ml(self) -> float:
        """Volume of the mask, ml."""
        return int(np.count_nonzero(self.mask)) * self.grid.voxel_ml


def field_of_view(volume: Image, spacing_mm: float, multiple: int) -> Grid:
    """Lay the isotropic R, A, S grid around a whole scan, every size a multiple of ``multiple``, centred.

    Examples
    --------
    >>> image = Image(np.zeros((20, 20, 10), np.float32, order="F"), np.diag([1.0, 1.0, 3.0, 1.0]))
    >>> field_of_view(image, 2.0, 4).shape
    (12, 12, 16)
    """
    half = np.full(3, 0.5)
    corners = np.array(list(product(*zip(-half, np.array(volume.shape) - half, strict=True))))
    world = corners @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    low, high = world.min(axis=0), world.max(axis=0)
    # a thousandth of a voxel forgives rounding: 160.0001 must not become another 16 planes
    blocks = np.ceil((high - low) / (spacing_mm * multiple) - 1e-3).astype(int).clip(min=1)
    shape = blocks * multiple
    affine = np.diag((spacing_mm, spacing_mm, spacing_mm, 1.0))
    affine[:3, 3] = (low + high) / 2 - spacing_mm * (shape - 1) / 2
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def brain_grid(mask: NDArray[np.bool_], mask_grid: Grid, bundle: Bundle) -> Grid:
    """Place and size the bundle's grid around a brain mask (D, H, W) that lies in another grid."""
    assert bundle.alignment is not None  # noqa: S101 - the bundle is one for heads
    centre_mm, std_mm = mask_moments_mm(mask, mask_grid.affine)
    return Grid(bundle.grid_shape, grid_to_world(centre_mm, std_mm, bundle.alignment, bundle.spacing_mm))


def to_grid(volume: Image, grid: Grid) -> NDArray[np.float32]:
    """Sample a scan in a grid, (D, H, W) float32: linear, 0 outside the scan; averaged first where it is much finer.

    Examples
    --------
    >>> image = Image(np.asfortranarray(np.arange(64).reshape(4, 4, 4), np.float32), np.eye(4))
    >>> to_grid(image, Grid((1, 1, 2), np.eye(4))).tolist()
    [[[0.0, 1.0]]]
    """
    sampled: NDArray[np.float32] = to_grid_on(CPU, volume, grid)
    return sampled


def to_grid_on(device: Device, volume: Image, grid: Grid) -> Any:
    """`to_grid` on a device, where the result stays."""
    return block_means(volume, float(grid.spacing_mm.min()), device).sampled(grid)


@dataclass(frozen=True)
class BlockMeans:
    """A scan averaged for samples of some spacing: what `to_grid` reads, for several grids of that spacing.

    ``array`` is in the file's order, so its axes are reversed, and lies on a device; ``affine`` is that of its voxels.
    """

    array: Any = field(repr=False)
    affine: NDArray[np.float64] = field(repr=False)

    def sampled(self, grid: Grid) -> Any:
        """Sample it in a grid, linear, 0 outside."""
        return kernels.resample(self.array, _index_map(grid.affine, self.affine)[_REVERSE], grid.shape)


def block_means(volume: Image, spacing_mm: float, device: Device = CPU) -> BlockMeans:
    """The scan's array as the kernels read it; axes far finer than ``spacing_mm`` averaged in blocks, the affine fit.

    Linear interpolation alone would pick single voxels out of a fine scan: noise instead of an average. Blocks stay
    smaller than the target's spacing, because interpolation smooths once more.
    """
    flips, affine = upright(volume)
    array = device.to_device(_readable(volume.voxels[flips].T))
    factors = [max(1, round(spacing_mm / (1.5 * fine_mm))) for fine_mm in volume.spacing_mm]
    for axis, factor in enumerate(factors):
        affine[:3, 3] += affine[:3, axis] * (factor - 1) / 2
        affine[:3, axis] *= factor
    if max(factors) > 1:
        array = kernels.block_mean(array, (factors[2], factors[1], factors[0]))
    return BlockMeans(array, affine)


def box_around(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Slices of the smallest box that holds a mask (D, H, W) and what touches it; all there is if the mask is empty.

    Examples
    --------
    >>> mask = np.zeros((9, 9, 9), bool)
    >>> mask[4, 4, 4:6] = True
    >>> mask[box_around(mask)].shape
    (3, 3, 4)
    """
    planes = mask.any(axis=0), mask.any(axis=2)
    lines = planes[1].any(axis=1), planes[0].any(axis=1), planes[0].any(axis=0)
    filled = [np.flatnonzero(line) for line in lines]
    return tuple(slice(max(f[0] - 1, 0), f[-1] + 2) if len(f) else slice(None) for f in filled)


def sample(
    scan: Volume, place: Grid, mask: NDArray[np.uint8], grid: Grid, device: Device, evened: Evened | None = None
) -> Conformed:
    """Sample every modality of a scan in a grid and take its robust range inside the mask that all share.

    Parameters
    ----------
    place, grid : where it is sampled, and where that lies in the world; the same but for crops
    mask : (D, H, W) uint8, not empty
    evened : what is done to each image before its range is taken; None for nothing
    """
    mask_there = device.to_device(mask)
    there = [to_grid_on(device, modality, place) for modality in scan.modalities]
    here = [device.to_host(image) for image in there]
    if evened is not None:
        for m, image in enumerate(here):
            here[m] = evened(image, mask, grid)
            if here[m] is not image:
                there[m] = device.to_device(here[m])
    ranges = tuple(kernels.robust_range(image, mask_there) for image in there)
    images = here[0][None] if len(here) == 1 else np.stack(here)
    return Conformed(images, mask, ranges, grid, device).with_placed(there, mask_there)


def conform_labels(labels: Image, grid: Grid, labelling: Labelling) -> NDArray[np.uint8]:
    """Bring the classes of a label map into a grid: each class sampled as an image, the strongest wins."""
    classes = labelling.classes_of(labels.voxels)
    shares = [
        to_grid(Image(np.asfortranarray(classes == of.index, dtype=np.float32), labels.affine), grid)
        for of in labelling.classes
    ]
    return kernels.argmax(np.stack(shares))


def between_grids(image: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Sample an image (D, H, W) of one grid in another grid, linear, 0 outside."""
    return kernels.resample(image, _index_map(target.affine, source.affine), target.shape)


def to_scan(
    probabilities: NDArray[np.float32],
    grid: Grid,
    volume: Image,
    mask: NDArray[np.uint8] | None = None,
    device: Device = CPU,
) -> NDArray[np.uint8]:
    """Invert `to_grid` for a segmentation: from class probabilities in a grid to labels in the scan's own grid.

    Parameters
    ----------
    probabilities : (C, D, H, W) float32, any positive scale
    grid : where they lie
    volume : the scan
    mask : (D, H, W) uint8; where it is 0 there is nothing but background, whatever the probabilities say

    Returns
    -------
    labels : (I, J, K) uint8 in Fortran order, the class whose linearly interpolated probability is highest, 0 outside.
    """
    flips, affine = upright(volume)
    matrix = np.ascontiguousarray(_index_map(affine, grid.affine)[:, [*_REVERSE, 3]])
    i, j, k = volume.shape
    inside = None if mask is None else device.to_device(mask)
    labels = kernels.restore_labels(device.to_device(probabilities), matrix, (k, j, i), mask=inside)
    return np.asfortranarray(device.to_host(labels).T[flips])


def image_to_scan(image: NDArray[np.float32], grid: Grid, volume: Image) -> NDArray[np.float32]:
    """Sample an image (D, H, W) of a grid in the scan's own grid: (I, J, K) in Fortran order, linear, 0 outside."""
    flips, affine = upright(volume)
    matrix = np.ascontiguousarray(_index_map(affine, grid.affine)[:, [*_REVERSE, 3]])
    i, j, k = volume.shape
    return np.asfortranarray(kernels.resample(image, matrix, (k, j, i)).T[flips])


def _index_map(source_affine: NDArray[np.float64], target_affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 4) matrix from an index of one grid to the index of the same place in another."""
    return np.ascontiguousarray(np.linalg.solve(target_affine, source_affine)[:3])


def upright(volume: Image) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """Slices that turn every array axis towards R, A or S, and the affine then: a flipped copy rounds alike."""
    affine, flips = volume.affine.copy(), []
    for axis, size in enumerate(volume.shape):
        direction = affine[:3, axis].copy()
        down = direction[int(np.abs(direction).argmax())] < 0
        flips.append(slice(None, None, -1 if down else 1))
        if down:
            affine[:3, 3] += direction * (size - 1)
            affine[:3, axis] = -direction
    return tuple(flips), affine


def _readable(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The array itself if it is in C order but for the direction of its axes, else a copy in C order."""
    forwards = tuple(slice(None, None, -1 if stride < 0 else 1) for stride in array.strides)
    return array if array[forwards].flags.c_contiguous else np.ascontiguousarray(array)
