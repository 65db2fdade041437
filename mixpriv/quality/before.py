"""Is a scan what the bundle is for? Looked at before anything is sent, as far as the bundle has limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mixpriv.bundle import Bundle
from mixpriv.imaging.resample import Conformed
from mixpriv.imaging.volume import Volume
from mixpriv.quality.atlas import Atlas
from mixpriv.quality.check import Check, Measure, judged
from mixpriv.quality.field_of_view import edge_cm2, flat_percent

CheckScan = Callable[[Volume, Conformed], tuple[Check, ...]]
"""A scan, and the same in the bundle's grid, to what was found."""

MEASURES: Mapping[str, Measure] = {
    "resolution": Measure("largest distance of voxels", "mm", too_high="slices are thicker than the bundle is for"),
    "flat": Measure(
        "voxels with the value of their neighbours", "%", too_high="this may be a label map or a mask, not a scan"
    ),
    "edge": Measure(
        "area of the brain where the field of view ends", "cm²", too_high="a part of the brain may not be in the scan"
    ),
    "size": Measure(
        "volume inside the skull",
        "ml",
        "this is smaller than an adult's, or not all of the brain was found",
        "this is larger than a brain, or more than the brain was found",
    ),
    "border": Measure("unsure border of the brain", "%", too_high="what was found may be no brain, or not all of it"),
    "symmetry": Measure("left and right half overlap", "%", too_low="a part of one half may be missing"),
    "anatomy": Measure("explained by an average brain", "%", too_low="this may be no brain, or a child's"),
    "orientation": Measure(
        "explained better than when turned", "%", too_low="the header may say wrongly where up, front and left are"
    ),
    "contrast": Measure(
        "white matter brighter than grey matter", "%", too_low="this may not be T1-weighted, or an infant's scan"
    ),
    "grey": Measure(
        "brightness of grey matter by that of white matter",
        "%",
        "this may be a map such as FA, not a scan",
        "this may not be T1-weighted, or an infant's scan",
    ),
}


def scan_checker(bundle: Bundle) -> CheckScan:
    """What checks scans for a bundle; what it needs is loaded."""
    of_atlas = {"symmetry", "anatomy", "orientation", "contrast", "grey"}
    atlas = Atlas.of(bundle) if of_atlas & bundle.quality.keys() else None

    def check(scan: Volume, conformed: Conformed) -> tuple[Check, ...]:
        return judged(measured(scan, conformed, atlas), bundle.quality, MEASURES) if bundle.quality else ()

    return check


def measured(scan: Volume, conformed: Conformed, atlas: Atlas | None) -> dict[str, float]:
    """The value of each check; of those that need an average brain only with one."""
    values = {
        "resolution": float(scan.spacing_mm.max()),
        "flat": flat_percent(scan, conformed),
        "edge": edge_cm2(scan, conformed),
        "size": conformed.mask_ml,
    }
    if conformed.unsure is not None:
        values["border"] = 100 * conformed.unsure
    if atlas is not None:
        match = atlas.match(conformed)
        values |= {
            "symmetry": 100 * match.symmetry,
            "anatomy": 100 * match.explained,
            "orientation": 100 * match.upright,
            "contrast": 100 * match.white_brighter,
            "grey": 100 * match.grey_to_white,
        }
    return values
