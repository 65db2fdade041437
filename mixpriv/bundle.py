"""A bundle: the trained networks that belong together, with everything both sides must agree on.

A bundle is a folder with ``bundle.json`` and the files that it names. The server needs only ``segmenter.onnx``; the
client needs the unmixer, the reference model and, for heads, the brain extractor. Each may have its part alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixpriv.bundle_fields import MOST_RECORD_BYTES, NOTES, SCHEMA, SIDES, check_fields
from mixpriv.bundle_files import check_files
from mixpriv.errors import InputError, printable
from mixpriv.reading import read_json, require_own_files
from mixpriv.schema import FieldError

__all__ = ["DEFAULT_BUNDLE", "SCHEMA", "Bundle", "fingerprint_of", "load_bundle", "shipped_bundles"]

_RECORD = "bundle.json"
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
class Impostors:
    """How alike mode ``shielded``'s mixtures and other people's scans are: mean and standard deviation of `risk`'s.

    A mixture that is more than ``limit`` standard deviations above the mean alike to its own scan is not sent.
    """

    mean: float
    std: float
    limit: float


@dataclass(frozen=True)
class Shielded:
    """How mode ``shielded`` sends: the target's share is drawn from ``weight_range``, the mixture bent by ``warp_mm``.

    ``warp_mm``: mean length of the displacement, mm. ``impostors``: None if nobody measured them.
    """

    weight_range: tuple[float, float]
    warp_mm: float
    impostors: Impostors | None = None


@dataclass(frozen=True)
class Limit:
    """Of a check: where the user is warned, and where nothing is sent; None: at no value."""

    warn_below: float | None = None
    warn_above: float | None = None
    refuse_below: float | None = None
    refuse_above: float | None = None


@dataclass(frozen=True)
class Tissues:
    """What classes are merged to if tissues are wanted, background first; ``of``: the tissue of each class."""

    classes: tuple[str, ...]
    abbreviations: tuple[str, ...] | None
    colors: tuple[str, ...] | None
    of: tuple[int, ...]


@dataclass(frozen=True)
class Bundle:
    """What ``bundle.json`` says, checked. Shapes and spacings are in R, A, S order.

    A bundle for heads has an ``alignment`` and an extractor, one for crops around a region has a ``crop``.

    Attributes
    ----------
    classes : names of the C classes, background first.
    abbreviations, colors : of the classes, ``#rrggbb``; None if the bundle names none.
    labels : of each class the numbers of its sides, see `mixpriv.labels.Labelling`; None: a class' index is its label.
    tissues : what the classes merge to; None if the bundle does not say.
    recommended_mode : the mode in which a server is asked if the user names none.
    modalities : names of the M input channels, in the order in which a 4-D scan's last axis holds them.
    grid_shape, spacing_mm : the conformed grid (D, H, W), voxels and mm.
    multiple : every spatial size sent must be a multiple of this.
    weight_range : (lo, hi), the target's share in the mixture is drawn from it.
    shielded : what its networks were trained for in mode ``shielded``, None if they were not.
    unmixer_sees_target : the unmixer is also shown the scan that it unmixes, which never leaves the client.
    unmixer_sharpness : how much the linear unmixing counts beside what the unmixer corrects, at a weight of 1.
    unmixer_alone : it was also trained to do without an answer, so it is the network of mode local, too.
    extractor_spacing_mm : grid spacing of the brain extractor, mm; None: no extractor, for skull-stripped scans alone.
    quality : the limits of the checks that are made, by name; checks without one are not made.
    fingerprint : 64 hex digits over the segmenter file; names the network that the unmixer was trained with.
    files : SHA-256 of each file of the whole bundle, also of those that a part lacks; None in earlier bundles.
    part : ``whole``, or whose part this is: ``client`` or ``server``.
    """

    name: str
    version: str
    fingerprint: str
    files: Mapping[str, str] | None
    part: str
    classes: tuple[str, ...]
    abbreviations: tuple[str, ...] | None
    colors: tuple[str, ...] | None
    labels: tuple[tuple[tuple[int, ...], ...], ...] | None
    tissues: Tissues | None
    recommended_mode: str
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
    quality: Mapping[str, Limit]
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
    def has_local(self) -> bool:
        """Whether a client can do without a server: there is a network for it, or the unmixer can."""
        return self.unmixer_alone or "local.onnx" in (self.files or ())

    @property
    def local_path(self) -> Path:
        """ONNX of mode local's network: ``target`` f32 (N,M,D,H,W) -> ``logits`` f32 (N,8C,D/2,H/2,W/2)."""
        return self.directory / "local.onnx"

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

    Examples
    --------
    >>> require_one_modality(load_bundle("brain-t1"), "a picture")
    """
    if len(bundle.modalities) > 1:
        raise InputError(
            f"bundle {bundle.name}: {purpose}: expected a bundle of one modality, got {', '.join(bundle.modalities)}"
        )


def fingerprint_of(segmenter: Path) -> str:
    """SHA-256 of the segmenter file (graph and weights are one file), 64 hex digits."""
    return hashlib.sha256(segmenter.read_bytes()).hexdigest()


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that came with the package.

    Examples
    --------
    >>> shipped_bundles()
    ('brain-t1', 'hippocampus')
    """
    return tuple(sorted(p.parent.name for p in _SHIPPED.glob(f"*/{_RECORD}")))


def load_bundle(name_or_folder: str | os.PathLike[str] = DEFAULT_BUNDLE) -> Bundle:
    """Read a bundle by its shipped name or its folder, and check all that can be checked without its networks.

    Raises
    ------
    InputError
        no such bundle, ``bundle.json`` unreadable, a field missing, unknown or out of its range, a file of another kind
        than a regular one or not the recorded one, or the segmenter has other tensors or an operator that none needs.

    Examples
    --------
    >>> bundle = load_bundle("hippocampus")
    >>> bundle.classes
    ('background', 'anterior hippocampus', 'posterior hippocampus')
    >>> bundle.model_name
    'hippocampus_segmenter'
    """
    folder = _folder_of(os.fspath(name_or_folder))
    if folder.parent != _SHIPPED:  # links among the package's own files are its installer's
        require_own_files(folder, (_RECORD, *SIDES))
    bundle = bundle_of(read_json(folder / _RECORD, MOST_RECORD_BYTES), folder)
    check_files(bundle)
    return bundle


def _folder_of(name: str) -> Path:
    if name and os.path.lexists(os.path.join(name, _RECORD)):
        return Path(name)
    shipped = shipped_bundles()
    if name in shipped:
        return _SHIPPED / name
    raise InputError(
        f"bundle {printable(name)!r} not found: expected a folder with {_RECORD} or one of "
        f"{', '.join(shipped) or 'no shipped bundles'}"
    )


def bundle_of(fields: Any, folder: Path) -> Bundle:
    """Check the record of a bundle, as JSON gives it, and make a `Bundle` of it.

    Raises
    ------
    InputError
        a field is missing, unknown or out of its range, or two contradict each other.
    """
    path = folder / _RECORD
    if isinstance(fields, dict):
        schema = fields.get("schema")
        if schema != SCHEMA:
            raise InputError(f"{path}: schema {printable(repr(schema), 40)}, expected {SCHEMA}")
        if ("crop" in fields) == bool(fields.keys() & {"alignment", "extractor_spacing_mm"}):
            raise InputError(f"{path}: expected either alignment or crop")
    try:
        found = check_fields(fields)
    except FieldError as error:
        raise InputError(f"{path}: field missing or of the wrong kind: {error}") from None
    return Bundle(
        **{name: found[name] for name in _PLAIN},
        files=found["files"] and {name: digest for name, digest in found["files"].items() if digest},
        shielded=_shielded(found["shielded"]),
        unmixer_sees_target=found["unmixer_sees"] == "target",
        alignment=Alignment(**found["alignment"]) if found["alignment"] else None,
        quality={name: Limit(**limit) for name, limit in (found["quality"] or {}).items() if limit},
        crop=Crop(**found["crop"]) if found["crop"] else None,
        tissues=Tissues(**found["tissues"]) if found["tissues"] else None,
        directory=folder,
        extra={name: found[name] for name in NOTES if name in fields},
    )


_PLAIN = (
    "name", "version", "fingerprint", "part", "classes", "modalities", "grid_shape", "spacing_mm", "multiple",
    "weight_range", "abbreviations", "colors", "labels", "recommended_mode", "unmixer_sharpness", "unmixer_alone",
    "extractor_spacing_mm", "licence",
)  # fmt: skip
"""Fields of the record that are a bundle's as they stand."""


def _shielded(fields: Mapping[str, Any] | None) -> Shielded | None:
    if fields is None:
        return None
    strangers = fields["strangers"]
    if strangers is not None:
        strangers = Impostors(strangers["mean"], strangers["std"], fields["risk_limit"])
    return Shielded(fields["weight_range"], fields["warp_mm"], strangers)
