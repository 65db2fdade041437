"""The fields of ``bundle.json``, one a line: what each may hold. A bundle is somebody else's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixpriv.schema import (
    Field,
    FieldError,
    expected,
    flag,
    interval,
    label,
    note,
    number,
    one_of,
    or_nothing,
    record,
    sequence,
    text,
    whole,
)

SCHEMA = 2
MOST_RECORD_BYTES = 2**18
MOST_CLASSES = 255  # labels are bytes
MOST_WEIGHT = 0.9
"""Of the target's share in a mixture: above it the mixture is all but the bare scan."""

MOST_WARP_MM = 8.0
"""Mean length of a warp's displacements, mm: longer ones fold."""

_LEAST_WEIGHT = 0.01  # the answer is divided by it
_MOST_VOXELS = 2**24
_MOST_VALUES = 2**28
"""Of all classes' probabilities in the grid: 1 GiB."""

_COLOR = text("#[0-9a-f]{6}", "a colour such as #00ff7f")
_WEIGHTS = interval(_LEAST_WEIGHT, MOST_WEIGHT)
_SIZES_MM = sequence(number(0, 1000, above=True), 3, 3)

_STRANGERS = {
    "mean": Field(number(-1, 1)),
    "std": Field(number(1e-6, 1)),
    "mixtures": Field(whole(1, 10**6), None),
}
_SHIELDED = {
    "weight_range": Field(_WEIGHTS),
    "warp_mm": Field(number(0, MOST_WARP_MM, above=True)),
    "risk_limit": Field(number(-100, 100), None),
    "strangers": Field(record(_STRANGERS), None),
}
_ALIGNMENT = {
    "std_mm": Field(_SIZES_MM),
    "centre_voxel": Field(sequence(number(0, 1000), 3, 3)),
}
_CROP = {
    "region": Field(label(64)),
    "min_mm": Field(_SIZES_MM),
    "max_mm": Field(_SIZES_MM),
}
_LIMIT = {name: Field(number(-1e6, 1e6), None) for name in ("warn_below", "warn_above", "refuse_below", "refuse_above")}
CHECKS_BEFORE = (
    "resolution", "flat", "edge", "size", "border", "symmetry", "anatomy", "orientation", "contrast", "grey",
)  # fmt: skip
"""Names of the checks before anything is sent, which alone may refuse; see `mixpriv.quality`."""

CHECKS_AFTER: tuple[str, ...] = ()
"""Names of the checks of a result."""

_TISSUES = {
    "classes": Field(sequence(label(64), 2, MOST_CLASSES, distinct=True)),
    "abbreviations": Field(sequence(label(16), 2, MOST_CLASSES), None),
    "colors": Field(sequence(_COLOR, 2, MOST_CLASSES), None),
    "of": Field(sequence(whole(0, MOST_CLASSES - 1), 2, MOST_CLASSES)),
}
_COST = {
    "segmenter": Field(whole(1, 2**53)),
    "unmixer": Field(whole(1, 2**53)),
    "local": Field(whole(1, 2**53), None),
    "voxels": Field(whole(1, 2**53), None),
}
_TRAINED = {
    "steps": Field(whole(0, 10**9)),
    "machine": Field(label(64), None),
    "extractor_steps": Field(whole(0, 10**9), None),
    "local_steps": Field(whole(0, 10**9), None),
}
_REGION = {"held_out_every": Field(whole(2, 1000), None)}
_CONFIG = {"region": Field(record(_REGION, others=True), None)}
_DIGEST = text("[0-9a-f]{64}", "64 hex digits")

SIDES: Mapping[str, str] = {
    "segmenter.onnx": "server",
    "unmixer.onnx": "client",
    "local.onnx": "client",
    "extractor.onnx": "client",
    "reference.npz": "client",
    "quality.json": "client",
}
"""The files beside the record, and the side that needs each."""

OPTIONAL = ("local.onnx", "extractor.onnx", "quality.json")
_FILES = {name: Field(_DIGEST, None) if name in OPTIONAL else Field(_DIGEST) for name in SIDES}

NOTES: Mapping[str, Field] = {
    "training_data": Field(note, None),
    "intended_use": Field(note, None),
    "limits": Field(note, None),
    "config": Field(record(_CONFIG, others=True), None),
    "multiply_adds": Field(record(_COST), None),
    "parity_with_torch_f64": Field(note, None),
    "parity_openvino_f32_with_torch": Field(note, None),  # of earlier bundles
    "trained": Field(record(_TRAINED), None),
}
"""What is said about a bundle and changes nothing that a client or a server does."""

FIELDS: Mapping[str, Field] = {
    "schema": Field(whole(SCHEMA, SCHEMA)),
    # it becomes a part of file names and of the served model's
    "name": Field(text("[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "a name of at most 64 letters, digits, - and _")),
    "version": Field(text("[0-9A-Za-z][0-9A-Za-z.+-]{0,31}", "a version such as 1.0.0")),
    "fingerprint": Field(_DIGEST),
    "files": Field(record(_FILES), None),
    "part": Field(one_of("whole", "client", "server"), "whole"),
    "classes": Field(sequence(label(64), 2, MOST_CLASSES, distinct=True)),
    "abbreviations": Field(sequence(label(16), 2, MOST_CLASSES), None),
    "colors": Field(sequence(_COLOR, 2, MOST_CLASSES), None),
    # of each class: its numbers, or those of its left and its right side; the first of a side is written
    "labels": Field(sequence(sequence(sequence(whole(0, 255), 1, 16), 1, 2), 2, MOST_CLASSES), None),
    "tissues": Field(record(_TISSUES), None),
    "recommended_mode": Field(one_of("mixup", "shielded"), "mixup"),
    "modalities": Field(sequence(label(64), 1, 16, distinct=True)),
    "grid_shape": Field(sequence(whole(2, 512), 3, 3)),
    "spacing_mm": Field(number(0.1, 10)),
    "multiple": Field(whole(2, 64)),
    "weight_range": Field(_WEIGHTS),
    "shielded": Field(record(_SHIELDED), None),
    "unmixer_sees": Field(one_of("labels", "target"), "labels"),
    "unmixer_sharpness": Field(number(0, 1e6, above=True)),
    "unmixer_alone": Field(flag, False),
    "alignment": Field(record(_ALIGNMENT), None),
    "extractor_spacing_mm": Field(or_nothing(number(1, 10)), None),
    "crop": Field(record(_CROP), None),
    "quality": Field(record({name: Field(record(_LIMIT), None) for name in (*CHECKS_BEFORE, *CHECKS_AFTER)}), None),
    "licence": Field(label(200)),
    **NOTES,
}


def check_field(name: str, value: Any) -> Any:
    """Check one field by itself; returns what it means.

    Raises
    ------
    FieldError
        the field is unknown or its value is not what it must be.
    """
    return record({name: FIELDS[name]} if name in FIELDS else {})({name: value})[name]


def _check_each_class(found: Mapping[str, Any], classes: int) -> None:
    """Refuse a list of something that belongs to each class and has another length."""
    for name in ("abbreviations", "colors", "labels"):
        if found.get(name) is not None and len(found[name]) != classes:
            raise FieldError(f"{name}: expected one for each of the {classes} classes")


def _check_labels(found: Mapping[str, Any]) -> None:
    """Refuse numbers that mean two things, sides of what is a crop, and tissues that are not those of the classes."""
    if found["labels"] is not None:
        numbers = [number for sides in found["labels"] for side in sides for number in side]
        if len(set(numbers)) < len(numbers) or found["labels"][0] != ((0,),):
            raise FieldError("labels: expected numbers that all differ, 0 alone for the background")
        if found["crop"] and max(map(len, found["labels"])) > 1:
            raise FieldError("labels: expected one side of each class of a crop")
    tissues = found["tissues"]
    if tissues is not None:
        _check_each_class(tissues, len(tissues["classes"]))
        of = tissues["of"]
        if len(of) != len(found["classes"]) or set(of) != set(range(len(tissues["classes"]))):
            raise FieldError("tissues.of: expected a tissue for each class, and each tissue once or more")
        if of[0] != 0 or of.count(0) > 1:
            raise FieldError("tissues.of: expected 0 for the background, and for it alone")


def _check_files(found: Mapping[str, Any]) -> None:
    """Refuse digests that contradict what else is said of the networks; earlier bundles name no files."""
    files = found["files"]
    if found["unmixer_alone"] and found["unmixer_sees"] == "labels":
        raise FieldError("unmixer_alone: expected false, since the unmixer does not see the scan")
    if files is None:
        if found["part"] != "whole":
            raise FieldError("files: missing, expected in a part of a bundle")
        return
    if files["segmenter.onnx"] != found["fingerprint"]:
        raise FieldError("files: expected the fingerprint for segmenter.onnx")
    if (files["extractor.onnx"] is None) != (found["extractor_spacing_mm"] is None):
        raise FieldError("files: expected extractor.onnx if and only if there is an extractor_spacing_mm")
    if found["unmixer_alone"] and files["local.onnx"] is not None:
        raise FieldError("unmixer_alone: expected false beside local.onnx")


def check_fields(fields: Any) -> dict[str, Any]:
    """Check each field of a record, and how they fit together; returns what they mean.

    Raises
    ------
    FieldError
        one is missing, unknown, or not what it must be, or two contradict each other.
    """
    found = record(FIELDS)(fields)
    shape, multiple = found["grid_shape"], found["multiple"]
    if multiple % 2 or any(n % multiple for n in shape):
        raise FieldError(f"grid_shape: expected multiples of an even number of voxels, got {shape} of {multiple}")
    voxels = shape[0] * shape[1] * shape[2]
    if voxels > _MOST_VOXELS or voxels * len(found["classes"]) > _MOST_VALUES:
        raise FieldError(f"grid_shape: expected at most {_MOST_VOXELS} voxels, {_MOST_VALUES} for all classes")
    if found["shielded"] and found["shielded"]["strangers"] and found["shielded"]["risk_limit"] is None:
        raise FieldError("shielded.risk_limit: missing")
    _check_each_class(found, len(found["classes"]))
    _check_labels(found)
    _check_files(found)
    recommended = found["recommended_mode"]
    if not found.get(recommended, True):  # a mode for which networks must be trained has a field of its name
        raise FieldError(f"recommended_mode: expected mixup, since the bundle has no mode {recommended}")
    if found["crop"]:
        _check_crop(found["crop"], shape, found["spacing_mm"])
    else:
        _check_head(fields, found["alignment"], shape)
    return found


def _check_head(fields: Mapping[str, Any], alignment: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    for name in ("alignment", "extractor_spacing_mm"):
        if name not in fields:  # no extractor must be said, as null: a forgotten field is an error
            raise FieldError(f"{name}: missing")
    if any(c > n - 1 for c, n in zip(alignment["centre_voxel"], shape, strict=True)):
        raise FieldError(f"alignment.centre_voxel: {expected('a voxel of the grid', alignment)}")


def _check_crop(crop: Mapping[str, Any], shape: tuple[int, ...], spacing_mm: float) -> None:
    if any(low > high for low, high in zip(crop["min_mm"], crop["max_mm"], strict=True)):
        raise FieldError("crop.min_mm: expected no more than crop.max_mm")
    if any(mm > n * spacing_mm for mm, n in zip(crop["max_mm"], shape, strict=True)):
        raise FieldError("expected crop.max_mm to fit into the grid")
