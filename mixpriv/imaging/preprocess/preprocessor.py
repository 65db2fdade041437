"""From a scan to the target of a bundle: the brain that is found in a head, or the crop that was given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mixpriv.bundle import Bundle
from mixpriv.imaging.device import CPU, Device
from mixpriv.imaging.preprocess.crop import conform_crop
from mixpriv.imaging.preprocess.extraction import Brain, conform, extract_brain, load_extractor
from mixpriv.imaging.preprocess.intensities import with_air_at_zero
from mixpriv.imaging.preprocess.stripped import stripped_brain
from mixpriv.imaging.resample import Conformed
from mixpriv.imaging.volume import Volume
from mixpriv.timing import Timings

Preprocessor = Callable[[Volume, Timings], Conformed]
"""Scan to target in the bundle's grid; InputError if the scan does not show what the bundle is for."""


def load_preprocessor(bundle: Bundle, device: Device = CPU) -> Preprocessor:
    """What brings scans into a bundle's grid on a device, its networks loaded.

    Raises
    ------
    InputError
        the extractor of a bundle for heads is missing or damaged.
    """
    if bundle.crop is not None:

        def crop(scan: Volume, timings: Timings) -> Conformed:
            with timings("conform"):
                return conform_crop(scan, bundle, device)

        return crop

    find = _finder(bundle)

    def head(scan: Volume, timings: Timings) -> Conformed:
        with timings("extract"):
            if bundle.extractor_spacing_mm is not None:
                scan = with_air_at_zero(scan)
            brain = find(scan)
        with timings("conform"):
            return conform(scan, brain, bundle, device)

    return head


def _finder(bundle: Bundle) -> Callable[[Volume], Brain]:
    """What finds the brain: a network in the first modality, or nothing but the background of a stripped scan."""
    if bundle.extractor_spacing_mm is None:
        return partial(stripped_brain, bundle=bundle)
    extractor = load_extractor(bundle)
    return lambda scan: extract_brain(scan.modalities[0], extractor, bundle)
