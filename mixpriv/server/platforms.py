"""The ways in which Triton can run a segmenter: this package's Python model, or a backend of Triton's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mixpriv.bundle import Bundle, fingerprint_of
from mixpriv.bundle_files import require_side
from mixpriv.engine.plan import PLAN, PlanRecord, check_network
from mixpriv.errors import InputError


@dataclass(frozen=True)
class Platform:
    """One of them.

    Attributes
    ----------
    lines : of config.pbtxt, which name the backend and the file it loads
    files : what it loads, by its name in an export; the first is named in an error
    target : of ``mixpriv export``, whose folder holds the files; "" for the bundle's own ``segmenter.onnx``
    kind : of Triton's instance group; KIND_AUTO is a GPU where there is one
    parameters : of the backend
    batches : False if it takes one volume at a time
    """

    name: str
    lines: str
    files: tuple[str, ...]
    target: str
    kind: str
    parameters: Mapping[str, str]
    batches: bool = True


_PLATFORMS = (
    Platform("python", 'backend: "python"', ("segmenter.onnx",), "", "KIND_AUTO", {}),
    Platform(
        "tensorrt", f'platform: "tensorrt_plan"\ndefault_model_filename: "{PLAN}"', (PLAN, f"{PLAN}.json"), "tensorrt",
        "KIND_GPU", {"execution_context_allocation_strategy": "ON_PROFILE_CHANGE"},
    ),
    # Its README says that batches of other than max_batch_size volumes crash it.
    Platform(
        "openvino", 'backend: "openvino"\ndefault_model_filename: "segmenter.xml"',
        ("segmenter.xml", "segmenter.bin", "export.json"), "openvino", "KIND_CPU", {}, batches=False,
    ),
    Platform(
        "onnxruntime", 'platform: "onnxruntime_onnx"\ndefault_model_filename: "segmenter.onnx"',
        ("segmenter.onnx",), "", "KIND_AUTO", {},
    ),
)  # fmt: skip
PLATFORMS: Mapping[str, Platform] = {platform.name: platform for platform in _PLATFORMS}


def sources(platform: Platform, bundle: Bundle, export: Path | None) -> list[Path]:
    """The files that go beside config.pbtxt, checked to be of the bundle's network.

    Parameters
    ----------
    export : folder of ``mixpriv export`` with the platform's target; for the Python model a plan may be given

    Raises
    ------
    InputError
        a file is missing, of another network or changed since it was exported, or there is an export too many; or the
        bundle is the client's part.
    """
    require_side(bundle, "server")
    if platform.name == "python":
        plan = [] if export is None else _exported(PLATFORMS["tensorrt"], bundle, export)
        return [_existing(bundle.segmenter_path, bundle), *plan]
    if platform.target:
        if export is None:
            raise InputError(
                f"platform {platform.name}: expected the folder of mixpriv export --target {platform.target}"
            )
        return _exported(platform, bundle, export)
    if export is not None:
        raise InputError(f"platform {platform.name}: it takes the bundle's own network, expected no export")
    return [_existing(bundle.segmenter_path, bundle)]


def plan_of(export: Path) -> PlanRecord:
    """The record of an exported plan."""
    return PlanRecord.read(export / PLAN)


def _exported(platform: Platform, bundle: Bundle, export: Path) -> list[Path]:
    paths = [_existing(export / name, bundle) for name in platform.files]
    if platform.target == "tensorrt":
        check_network(plan_of(export), paths[0], bundle.fingerprint)
    else:
        _check_export(export, bundle)
    return paths


def _check_export(export: Path, bundle: Bundle) -> None:
    """Refuse files that are not those of the export's record, or another network's."""
    try:
        record = json.loads((export / "export.json").read_text(encoding="utf-8"))
        fingerprint, files = record["fingerprint"], dict(record["files_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{export / 'export.json'}: not the record of an export") from None
    if fingerprint != bundle.fingerprint:
        raise InputError(f"{export}: exported from the network {fingerprint[:12]}, expected {bundle.fingerprint[:12]}")
    for name, digest in files.items():
        if not (export / name).is_file() or fingerprint_of(export / name) != digest:
            raise InputError(f"{export / name}: expected the file {digest[:12]} of its record, got another or none")


def _existing(path: Path, bundle: Bundle) -> Path:
    if not path.is_file():
        raise InputError(f"bundle {bundle.name}: {path} is missing")
    return path
