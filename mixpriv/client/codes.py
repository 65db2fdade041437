"""Codes of SNOMED CT for the classes of a segmentation, as DICOM wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ANATOMY, TISSUE, SUBSTANCE = "AnatomicalStructure", "Tissue", "BodySubstance"

_KNOWN = {
    "white matter": (TISSUE, "WhiteMatter"),
    "grey matter": (TISSUE, "GrayMatter"),
    "subcortical grey matter": (ANATOMY, "BasalGanglia"),
    "ventricles": (ANATOMY, "BrainVentricle"),
    "extraventricular CSF": (SUBSTANCE, "CerebrospinalFluid"),
    "cerebral white matter": (ANATOMY, "CerebralWhiteMatter"),
    "cerebral cortex": (ANATOMY, "CerebralCortex"),
    "lateral ventricle": (ANATOMY, "LateralVentricle"),
    "cerebellar white matter": (ANATOMY, "CerebellarWhiteMatter"),
    "cerebellar cortex": (ANATOMY, "CerebellarCortex"),
    "thalamus": (ANATOMY, "Thalamus"),
    "caudate": (ANATOMY, "CaudateNucleus"),
    "putamen": (ANATOMY, "Putamen"),
    "pallidum": (ANATOMY, "GlobusPallidus"),
    "third ventricle": (ANATOMY, "ThirdVentricle"),
    "fourth ventricle": (ANATOMY, "FourthVentricle"),
    "brain stem": (ANATOMY, "BrainStem"),
    "hippocampus": (ANATOMY, "Hippocampus"),
    "anterior hippocampus": (ANATOMY, "Hippocampus"),
    "posterior hippocampus": (ANATOMY, "Hippocampus"),
    "amygdala": (ANATOMY, "Amygdala"),
    "accumbens": (ANATOMY, "NucleusAccumbens"),
    "ventral DC": (ANATOMY, "VentralDiencephalon"),
}
"""Of each class the category and the type of its segment, by their keywords in pydicom's tables."""

_OWN = {
    "BasalGanglia": ("32610002", "SCT", "Basal ganglia"),
    "AnatomicalStructure": ("123037004", "SCT", "Anatomical Structure"),
    "Tissue": ("85756007", "SCT", "Tissue"),
    "BodySubstance": ("91720002", "SCT", "Body substance"),
}
"""What those tables lack, or have under another meaning."""


@dataclass(frozen=True)
class Codes:
    """What a segment shows; ``side`` is None of what has none."""

    category: Any
    type: Any
    side: Any


def codes_of(name: str) -> Codes:
    """Find the codes of a class, or of one side of it (``left hippocampus``); of an unknown one those of the brain.

    Examples
    --------
    >>> codes = codes_of("left hippocampus")
    >>> codes.type.value, codes.type.scheme_designator, codes.side.meaning
    ('5366008', 'SCT', 'Left')
    """
    from pydicom.sr.codedict import codes

    first, _, rest = name.partition(" ")
    side = {"left": codes.SCT.Left, "right": codes.SCT.Right}.get(first)
    category, kind = _KNOWN.get(rest if side else name, (ANATOMY, "Brain"))
    return Codes(_code(category), _code(kind), side)


def _code(keyword: str) -> Any:
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    if keyword in _OWN:
        return Code(*_OWN[keyword])
    return getattr(codes.DCM if keyword == "VentralDiencephalon" else codes.SCT, keyword)
