"""A bundle: the trained networks that belong together, with everything both sides must agree on.

A bundle is a folder with ``bundle.json`` and the files that it names. The server needs only ``segmenter.onnx``; the
client needs the unmixer, the reference model and, for heads, the brain extractor.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixpriv.errors import InputError

SCHEMA = 2
_LARGEST = 1e6
DEFAULT_BUNDLE = "brain-t1"
_SHIPPED = Path(__file__).parent / "bundles"


@dataclass(frozen=True)
class Alignment:
    """How a brain is placed in the bundle's grid: its centroid and its size per axis.

    ``std_mm``: standard deviation (R, A, S) of the voxel positions of an average brain mask, mm.
    ``centre_voxel``: grid index (R, A, S) at which the mask's centroid is put.
    """

    std_mm: tuple[float, float, float]
    centre_voxel: tuple[float, float, float]


@dataclass(frozen=True)
class Crop:
    """What a crop must show, and between which sizes of its field of view (R, A, S), mm."""

    region: str
    min_mm: tuple[float, float, float]
    max_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Strangers:
    """How alike mode ``shielded``'s mixtures and other people's scans are: mean and standard deviation of `risk`'s.

    A mixture that is more than ``limit`` standard deviations above the mean alike to its own scan is not sent.
    """

    mean: float
    std: float
    limit: float


@dataclass(frozen=True)
class Shielded:
    """How mode ``shielded`` sends: the target's share is drawn from ``weight_range``, the mixture bent by ``warp_mm``.

    ``warp_mm``: mean length of the displacement, mm. ``strangers``: None if nobody measured them.
    """

    weight_range: tuple[float, float]
    warp_mm: float
    strangers: Strangers | None = None


@dataclass(frozen=True)
class Bundle:
    """What ``bundle.json`` says, checked. Shapes and spacings are in R, A, S order.

    A bundle for heads has an ``alignment`` and an extractor, one for crops around a region has a ``crop``.

    Attributes
    ----------
    classes : names of the C classes, background first; the label value is the index.
    modalities : names of the M input channels, in the order in which a 4-D scan's last axis holds them.
    grid_shape, spacing_mm : the conformed grid (D, H, W), voxels and mm.
    multiple : every spatial size sent must be a multiple of this.
    weight_range : (lo, hi), the target's share in the mixture is drawn from it.
    shielded : what its networks were trained for in mode ``shielded``, None if they were not.
    unmixer_sees_target : the unmixer is also shown the scan that it unmixes, which never leaves the client.
    unmixer_sharpness : how much the linear unmixing counts beside what the unmixer corrects, at a weight of 1.
    unmixer_alone : it was also trained to do without an answer.
    extractor_spacing_mm : grid spacing of the brain extractor, mm; None: no extractor, for skull-stripped scans alone.
    fingerprint : 64 hex digits over the segmenter file; names the network that the unmixer was trained with.
    """

    name: str
    version: str
    fingerprint: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    grid_shape: tuple[int, int, int]
    spacing_mm: float
    multiple: int
    weight_range: tuple[float, float]
    shielded: Shielded | None
    unmixer_sees_target: bool
    unmixer_sharpness: float
    unmixer_alone: bool
    alignment: Alignment | None
    extractor_spacing_mm: float | None
    crop: Crop | None
    licence: str
    directory: Path
    extra: Mapping[str, Any]

    @property
    def segmenter_path(self) -> Path:
        """ONNX of S: ``mixture`` FP16 (N,M,D,H,W) -> ``segmentation_mixture`` UINT8 (N,C-1,D,H,W)."""
        return self.directory / "segmenter.onnx"

    @property
    def unmixer_path(self) -> Path:
        """ONNX of D: ``unmixer_input`` f32 (N,2C+1,D,H,W) -> ``correction`` f32 (N,8C,D/2,H/2,W/2).

        One that sees the target also takes ``target`` f32 (N,M,D,H,W). `mixpriv.kernels` makes what it takes (`unpack`)
        and probabilities of what it answers (`unmix`).
        """
        return self.directory / "unmixer.onnx"

    @property
    def extractor_path(self) -> Path:
        """ONNX of the brain extractor: ``image`` f32 (N,1,D,H,W) -> ``brain_probability`` f32 (N,1,D,H,W)."""
        return self.directory / "extractor.onnx"

    @property
    def reference_path(self) -> Path:
        """The reference generator's statistical model (.npz)."""
        return self.directory / "reference.npz"

    @property
    def model_name(self) -> str:
        """The name under which Triton serves the segmenter."""
        return f"{self.name}_segmenter"

    @property
    def model_version(self) -> int:
        """Triton's version number, derived from the fingerprint: another network is another version."""
        return int(self.fingerprint[:8], 16) % (2**31 - 1) + 1


def require_one_modality(bundle: Bundle, purpose: str) -> None:
    """Refuse a bundle of several modalities for what is made for one.

    Raises
    ------
    InputError
        it has several.
    """
    if len(bundle.modalities) > 1:
        raise InputError(
            f"bundle {bundle.name}: {purpose}: expected a bundle of one modality, got {', '.join(bundle.modalities)}"
        )


def fingerprint_of(segmenter: Path) -> str:
    """SHA-256 of the segmenter file (graph and weights are one file), 64 hex digits."""
    return hashlib.sha256(segmenter.read_bytes()).hexdigest()


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that came with the package."""
    return tuple(sorted(p.parent.name for p in _SHIPPED.glob("*/bundle.json")))


def load_bundle(name_or_folder: str | os.PathLike[str] = DEFAULT_BUNDLE) -> Bundle:
    """Read a bundle by its shipped name or its folder.

    Raises
    ------
    InputError
        no such bundle, ``bundle.json`` unreadable, a field missing or of the wrong kind, or the segmenter's fingerprint
        is not the recorded one.
    """
    folder = Path(name_or_folder)
    if not (folder / "bundle.json").is_file():
        folder = _SHIPPED / os.fspath(name_or_folder)
    path = folder / "bundle.json"
    if not path.is_file():
        raise InputError(
            f"bundle {os.fspath(name_or_folder)!r} not found: expected a folder with bundle.json or one of "
            f"{', '.join(shipped_bundles()) or 'no shipped bundles'}"
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({type(error).__name__})") from None
    bundle = _parse(fields, folder)
    if bundle.segmenter_path.is_file() and fingerprint_of(bundle.segmenter_path) != bundle.fingerprint:
        raise InputError(f"{bundle.segmenter_path}: fingerprint differs from the one in bundle.json")
    return bundle


def _parse(fields: Any, folder: Path) -> Bundle:
    try:
        if fields["schema"] != SCHEMA:
            raise InputError(f"{folder / 'bundle.json'}: schema {fields['schema']!r}, expected {SCHEMA}")
        known = {
            "schema", "name", "version", "fingerprint", "classes", "modalities", "grid_shape", "spacing_mm", "multiple",
            "weight_range", "shielded", "unmixer_sees",
            "unmixer_sharpness", "unmixer_alone", "alignment", "extractor_spacing_mm", "crop", "licence",
        }  # fmt: skip
        d, h, w = (int(n) for n in fields["grid_shape"])
        lo, hi = (float(a) for a in fields["weight_range"])
        if ("crop" in fields) == bool(fields.keys() & {"alignment", "extractor_spacing_mm"}):
            raise InputError(f"{folder / 'bundle.json'}: expected either alignment or crop")
        alignment, crop, extractor_mm = None, None, None
        if "crop" in fields:
            crop = _crop(fields["crop"])
            if any(mm > n * float(fields["spacing_mm"]) for mm, n in zip(crop.max_mm, (d, h, w), strict=True)):
                raise InputError(f"{folder / 'bundle.json'}: expected crop.max_mm to fit into the grid")
        else:
            alignment = Alignment(_three(fields["alignment"]["std_mm"]), _three(fields["alignment"]["centre_voxel"]))
            stripped = fields["extractor_spacing_mm"] is None  # must be said: a forgotten field is an error
            extractor_mm = None if stripped else float(fields["extractor_spacing_mm"])
        return Bundle(
            name=str(fields["name"]),
            version=str(fields["version"]),
            fingerprint=str(fields["fingerprint"]),
            classes=tuple(fields["classes"]),
            modalities=tuple(fields["modalities"]),
            grid_shape=(d, h, w),
            spacing_mm=float(fields["spacing_mm"]),
            multiple=int(fields["multiple"]),
            weight_range=(lo, hi),
            shielded=_shielded(fields["shielded"]) if "shielded" in fields else None,
            unmixer_sees_target=_sees_target(fields.get("unmixer_sees", "labels")),
            unmixer_sharpness=_positive("unmixer_sharpness", fields),
            unmixer_alone=bool(fields.get("unmixer_alone", False)),
            alignment=alignment,
            extractor_spacing_mm=extractor_mm,
            crop=crop,
            licence=str(fields["licence"]),
            directory=folder,
            extra={k: v for k, v in fields.items() if k not in known},
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder / 'bundle.json'}: field missing or of the wrong kind: {error}") from None


def _shielded(fields: Any) -> Shielded:
    low, high = (float(a) for a in fields["weight_range"])
    strangers = fields.get("strangers")
    if strangers is not None:
        strangers = Strangers(float(strangers["mean"]), float(strangers["std"]), float(fields["risk_limit"]))
        if not strangers.std > 0:
            raise ValueError("shielded.strangers.std must be above 0")
    return Shielded((low, high), float(fields["warp_mm"]), strangers)


def _positive(name: str, fields: Any) -> float:
    value = float(fields[name])
    if not 0 < value <= _LARGEST:
        raise ValueError(f"{name} must be above 0, at most {_LARGEST:g}")
    return value


def _sees_target(what: Any) -> bool:
    if what not in ("labels", "target"):
        raise ValueError(f"unmixer_sees {what!r}")
    return bool(what == "target")


def _crop(fields: Any) -> Crop:
    return Crop(str(fields["region"]), _three(fields["min_mm"]), _three(fields["max_mm"]))


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
