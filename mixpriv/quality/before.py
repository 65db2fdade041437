"""Is a scan what the bundle is for? Looked at before anything is sent, as far as the bundle has limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mixpriv.bundle import Bundle
from mixpriv.imaging.resample import Conformed
from mixpriv.imaging.volume import Volume
from mixpriv.quality.check import Check, Measure, judged

CheckScan = Callable[[Volume, Conformed], tuple[Check, ...]]
"""A scan, and the same in the bundle's grid, to what was found."""

MEASURES: Mapping[str, Measure] = {
    "resolution": Measure("largest distance of voxels", "mm", too_high="small structures cannot be seen"),
    "size": Measure(
        "volume inside the skull", "ml", "smaller than a brain of the bundle's people", "larger than a brain"
    ),
}


def scan_checker(bundle: Bundle) -> CheckScan:
    """What checks scans for a bundle; what it needs is loaded."""

    def check(scan: Volume, conformed: Conformed) -> tuple[Check, ...]:
        values = {"resolution": float(scan.spacing_mm.max()), "size": conformed.mask_ml}
        return judged(values, bundle.quality, MEASURES)

    return check
