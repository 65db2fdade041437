"""A bundle's segmenter as files for a server's runtime, each compared with what the bundle means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from mixpriv.export.atomic_folder import new_folder
from mixpriv.export.comparison import Comparison
from mixpriv.export.example import example_mixture
from mixpriv.export.runtimes import in_onnxruntime

from mixpriv.bundle import Bundle
from mixpriv.bundle_files import require_side
from mixpriv.engine import load
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.engine.precision import mixed_precision
from mixpriv.errors import InputError

RECORD = "export.json"
LEAST_WITHIN_ONE_LEVEL = 0.999
LEAST_WITHIN_ONE_LEVEL_MIXED = 0.99
"""Of FP16 more cannot be asked; what counts, the Dice, is measured by ``bench/parity.py``."""


def export_bundle(bundle: Bundle, target: str, folder: Path) -> Path:
    """Write the segmenter for OpenVINO or ONNX Runtime, and a record of what was written and how well it agrees.

    Parameters
    ----------
    target : "onnx" (float32 and mixed precision) or "openvino" (IR)
    folder : made by this

    Returns
    -------
    Path
        the folder

    Raises
    ------
    InputError
        the bundle lacks its network or its reference model, or an answer is not the network's.
    OutputError
        the folder exists already, or cannot be written.
    """
    require_network(bundle)
    with new_folder(folder) as staged:
        parity = _WRITERS[target](bundle, staged)
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(staged.iterdir())}
        record = {
            "bundle": bundle.name,
            "version": bundle.version,
            "fingerprint": bundle.fingerprint,
            "target": target,
            "files_sha256": files,
            "parity": {name: asdict(value) for name, value in parity.items()},
        }
        (staged / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder


def require_network(bundle: Bundle) -> None:
    """Refuse a bundle without its segmenter.

    Raises
    ------
    InputError
        it is missing, or at its owner's server.
    """
    require_side(bundle, "server")
    if not bundle.segmenter_path.is_file():
        raise InputError(f"bundle {bundle.name}: {bundle.segmenter_path} is missing")


def _write_onnx(bundle: Bundle, folder: Path) -> Mapping[str, Comparison]:
    model = onnx.load(bundle.segmenter_path)
    mixed = mixed_precision(model)
    (folder / "segmenter.onnx").write_bytes(bundle.segmenter_path.read_bytes())
    onnx.save(mixed, folder / "segmenter.mixed.onnx")
    example = example_mixture(bundle)
    expected = InProcessSegmenter(bundle.segmenter_path, precision="f32").segment(example)
    plain, rounded = (Comparison.of(in_onnxruntime(graph)(example), expected, 1.0) for graph in (model, mixed))
    return {
        "onnxruntime_f32_with_openvino_f32": require(plain, LEAST_WITHIN_ONE_LEVEL, "segmenter.onnx"),
        "onnxruntime_mixed_with_openvino_f32": require(
            rounded, LEAST_WITHIN_ONE_LEVEL_MIXED, "segmenter.mixed.onnx"
        ),
    }  # fmt: skip


def _write_openvino(bundle: Bundle, folder: Path) -> Mapping[str, Comparison]:
    from mixpriv.engine.openvino import save_ir

    save_ir(bundle.segmenter_path, folder / "segmenter.xml")
    example = example_mixture(bundle)
    expected = in_onnxruntime(onnx.load(bundle.segmenter_path))(example)
    answer = np.asarray(load(folder / "segmenter.xml", precision="f32")(mixture=example)["segmentation_mixture"])
    comparison = Comparison.of(answer, expected, 1.0)
    return {"openvino_f32_with_onnxruntime_f32": require(comparison, LEAST_WITHIN_ONE_LEVEL, "segmenter.xml")}


def require(comparison: Comparison, least: float, name: str) -> Comparison:
    """Refuse an answer that is too often off by more than one level of 255.

    Raises
    ------
    InputError
        saying how it differs.
    """
    if comparison.within_one_level < least:
        raise InputError(f"{name}: its answer differs from the network's: {comparison}")
    return comparison


_WRITERS: Mapping[str, Callable[[Bundle, Path], Mapping[str, Comparison]]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}
