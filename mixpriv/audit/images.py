"""What attacks measure on images: similarity to the truth, over that of a template."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy import ndimage

from mixpriv.reid.features import BAND_MM, Image, coarsen, fine_structure, unit

_WINDOW_MM = 4.0
_CONTRAST = (0.01, 0.03)


def displaced(channels: NDArray[np.float32], displacement: NDArray[np.float32]) -> NDArray[np.float32]:
    """Channels (N, D, H, W) at ``x + displacement`` (3, D, H, W) in voxels, linear, 0 beyond the grid."""
    index = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in channels.shape[1:]), indexing="ij"))
    moved = [ndimage.map_coordinates(channel, index + displacement, order=1) for channel in channels]
    return np.asarray(moved, dtype=np.float32)


def locally_normalised(image: NDArray[np.floating[Any]], spacing_mm: float) -> Image:
    """Fine structure divided by its local strength: contrast and bias are gone; unit norm."""
    detail = fine_structure(image, spacing_mm)
    strength = np.sqrt(ndimage.gaussian_filter(detail**2, 2 * BAND_MM[1] / spacing_mm))
    return unit(detail / np.maximum(strength, 0.2 * float(strength.max())))


def matched(image: Image, truth: Image, mask: NDArray[np.bool_]) -> Image:
    """The image with the gain and offset that bring it nearest to the truth in the mask: contrast is not the point."""
    x, y = image[mask].astype(np.float64), truth[mask].astype(np.float64)
    gain = float(((x - x.mean()) * (y - y.mean())).sum() / max(((x - x.mean()) ** 2).sum(), 1e-12))
    fitted = np.clip(gain * (image - x.mean()) + y.mean(), 0, 1)
    return np.where(mask, fitted, 0).astype(np.float32)


def ssim_map(image: Image, truth: Image, spacing_mm: float) -> tuple[Image, Image]:
    """Structural similarity and its contrast-structure part, (D, H, W) each, of images in [0, 1] (Wang et al. 2004).

    scikit-image has neither that part nor multi-scale SSIM, and its Gaussian window reaches 3.5 sigma, not 2.5.
    """
    sigma = _WINDOW_MM / spacing_mm / 2

    def mean(array: Image) -> Image:
        return np.asarray(ndimage.gaussian_filter(array, sigma, truncate=2.5), np.float32)

    c1, c2 = (np.float32(k * k) for k in _CONTRAST)
    mx, my = mean(image), mean(truth)
    vx, vy = mean(image * image) - mx * mx, mean(truth * truth) - my * my
    structure = (2 * (mean(image * truth) - mx * my) + c2) / (vx + vy + c2)
    return structure * (2 * mx * my + c1) / (mx * mx + my * my + c1), structure


def ssim(image: Image, truth: Image, mask: NDArray[np.bool_], spacing_mm: float) -> float:
    """Mean structural similarity inside a mask, the image's contrast matched to the truth first."""
    return float(ssim_map(matched(image, truth, mask), truth, spacing_mm)[0][mask].mean())


def ms_ssim(image: Image, truth: Image, mask: NDArray[np.bool_], spacing_mm: float, scales: int = 3) -> float:
    """Multi-scale SSIM (Wang et al. 2003), equal weights: structure at every scale, brightness at the coarsest."""
    image, value = matched(image, truth, mask), 1.0
    for scale in range(scales):
        full, structure = ssim_map(image, truth, spacing_mm)
        part = float((full if scale == scales - 1 else structure)[mask].mean())
        value *= max(part, 0.0) ** (1 / scales)
        even = tuple(slice(0, n - n % 2) for n in image.shape)
        image, truth = coarsen(image[even], 2), coarsen(truth[even], 2)
        mask = coarsen(mask[even].astype(np.float32), 2) > 0.5
    return value


def psnr(image: Image, truth: Image, mask: NDArray[np.bool_]) -> float:
    """Peak signal-to-noise ratio in a mask, dB, of images in [0, 1], contrast matched.

    Examples
    --------
    >>> truth = np.random.default_rng(0).random((4, 4, 4), np.float32)
    >>> psnr(truth, truth, np.ones(truth.shape, bool))
    100.0
    """
    error = float(((matched(image, truth, mask) - truth)[mask] ** 2).mean())
    return float(-10 * np.log10(max(error, 1e-10)))


def embedded(image: Image) -> str:
    """Three planes through the middle as a PNG in a data URL; windowed to the image's own range."""
    d, h, w = image.shape
    planes = [np.rot90(plane) for plane in (image[d // 2], image[:, h // 2], image[:, :, w // 2])]
    tall = max(plane.shape[0] for plane in planes)
    strip = np.concatenate([np.pad(p, ((0, tall - p.shape[0]), (0, 2))) for p in planes], axis=1)
    low, high = float(strip.min()), float(np.percentile(strip, 99.8))
    grey = (255 * np.clip((strip - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    picture = Pillow.fromarray(grey).resize((2 * grey.shape[1], 2 * grey.shape[0]))
    data = io.BytesIO()
    picture.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
