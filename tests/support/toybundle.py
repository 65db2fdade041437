"""A tiny but real bundle: analytic networks of the shipped form, so that everything runs without trained weights."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mixpriv.bundle import SCHEMA, Bundle, bundle_of, fingerprint_of, load_bundle
from mixpriv.bundle_files import digests
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.protection.reference import ReferenceModel
from tests.support.phantom import write_reference_model

CLASSES = ("background", "white matter", "grey matter", "nuclei", "internal CSF", "external CSF")
INTENSITIES = (0.0, 0.9, 0.6, 0.75, 0.3, 0.15)
"""The T1-like intensity (0..1) at which the toy segmenter is surest of each class."""

SHARPNESS = 400.0
UNMIXER_SHARPNESS = 20.0
SPATIAL = ["D", "H", "W"]
BLOCKS = ["D/2", "H/2", "W/2"]

PAIR = ("FLAIR", "T1c")
SHARES = (0.75, 0.25)
"""How much each modality of a pair counts for the toy segmenter."""


def write_toy_bundle(
    folder: Path,
    *,
    name: str = "toy-t1",
    sharpness: float = SHARPNESS,
    slowness: int = 0,
    modalities: tuple[str, ...] = ("T1w",),
    local: bool = False,
) -> Bundle:
    """Write a bundle into `folder` (made if need be) and load it; the reference model is not part of it.

    The segmenter gives every voxel the class whose intensity is nearest, softly (`sharpness`, per squared intensity);
    the unmixer corrects nothing in the linear unmixing that it is given; the extractor calls all above 0.1 brain.
    Another `sharpness` is another fingerprint. `slowness` adds that many idle 7x7x7 convolutions to the segmenter. The
    modalities are `PAIR` or one; it segments their weighted mean, and a pair has no extractor. `local` adds mode
    local's network, which does as the segmenter, and all files' digests, which earlier bundles lack.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "segmenter.onnx", *_segmenter(sharpness, slowness, pair=modalities == PAIR))
    _save(folder / "unmixer.onnx", *_unmixer())
    if len(modalities) == 1:
        _save(folder / "extractor.onnx", *_extractor())
    fields = {
        "schema": SCHEMA,
        "name": name,
        "version": "0.1.0",
        "fingerprint": fingerprint_of(folder / "segmenter.onnx"),
        "classes": CLASSES,
        "modalities": modalities,
        "grid_shape": [64, 80, 64],
        "spacing_mm": 3.0,
        "multiple": 16,
        "weight_range": [0.3, 0.7],
        "shielded": {
            "weight_range": [0.2, 0.4],
            "warp_mm": 4.0,
            "risk_limit": 9.0,
            "strangers": {"mean": 0.2, "std": 0.1},
        },
        "alignment": {"std_mm": [31.0, 39.0, 30.0], "centre_voxel": [31.5, 39.5, 31.5]},
        "extractor_spacing_mm": 3.0 if len(modalities) == 1 else None,
        "licence": "Apache-2.0",
        "unmixer_sharpness": UNMIXER_SHARPNESS,
    }
    if local:
        _save(folder / "local.onnx", *_local(sharpness))
        write_reference_model(bundle_of(json.loads(json.dumps(fields)), folder))
        fields["files"] = digests(folder)
    (folder / "bundle.json").write_text(json.dumps(fields, indent=2), encoding="utf-8")
    return load_bundle(folder)


def write_structures_bundle(folder: Path) -> Bundle:
    """Write a toy bundle that tells left and right apart, and says to which tissues its classes merge."""
    write_toy_bundle(folder, name="toy-structures")
    fields = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    fields |= {
        "abbreviations": ["BG", "WM", "GM", "SGM", "VENT", "ECSF"],
        "labels": [[[0]], [[2], [41]], [[3], [42]], [[11], [50]], [[4, 5], [43, 44]], [[24]]],
        "tissues": {"classes": ["background", "tissue", "fluid"], "of": [0, 1, 1, 1, 2, 2]},
    }
    (folder / "bundle.json").write_text(json.dumps(fields, indent=2), encoding="utf-8")
    return load_bundle(folder)


def write_slow_bundle(folder: Path) -> Bundle:
    """Write a toy bundle whose segmenter takes about a second on this machine, or more."""
    bundle = write_toy_bundle(folder, slowness=3)
    segmenter = InProcessSegmenter(bundle.segmenter_path)
    mixture = np.zeros((1, 1, *bundle.grid_shape), np.float16)
    segmenter.segment(mixture)
    begin = time.monotonic()
    segmenter.segment(mixture)
    return write_toy_bundle(folder, slowness=max(3, round(3 / (time.monotonic() - begin))))


def write_toy_crop_bundle(folder: Path, *, slowness: int = 0) -> Bundle:
    """Write a bundle for crops: the toy networks on a grid of 32x48x32 mm, no extractor, references of two classes."""
    write_toy_bundle(folder, name="toy-crop", slowness=slowness)
    fields = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    for name in ("alignment", "extractor_spacing_mm", "shielded"):
        del fields[name]
    fields |= {
        "grid_shape": [32, 48, 32],
        "spacing_mm": 1.0,
        "crop": {"region": "toy", "min_mm": [16, 24, 16], "max_mm": [32, 48, 32]},
    }
    (folder / "bundle.json").write_text(json.dumps(fields, indent=2), encoding="utf-8")
    (folder / "extractor.onnx").unlink()
    atlas = np.zeros((3, 32, 48, 32), np.uint8)
    atlas[0] = 255
    atlas[:, 3:-3, 3:-3, 3:-3] = np.array([0, 128, 127], np.uint8).reshape(3, 1, 1, 1)
    ReferenceModel(
        atlas, 1.0, np.array([0, 2, 1], np.uint8), np.array([-1, 0, 1], np.int8),
        np.array([(0, 0), (0.55, 0.65), (0.85, 0.95)], np.float32), 1.0, (32, 48, 32), 1.0,
    ).save(folder / "reference.npz")  # fmt: skip
    return load_bundle(folder)


def expected_probabilities(mixture: NDArray[np.float16], sharpness: float = SHARPNESS) -> NDArray[np.float64]:
    """What the toy segmenter means before quantising: (N, M=1, D, H, W) -> (N, C, D, H, W), float64."""
    levels = np.array(INTENSITIES, np.float16).astype(np.float64).reshape(1, -1, 1, 1, 1)
    likelihood = np.exp(-sharpness * (mixture.astype(np.float64) - levels) ** 2)
    result: NDArray[np.float64] = likelihood / likelihood.sum(axis=1, keepdims=True)
    return result


Graph = tuple[list[onnx.NodeProto], list[onnx.TensorProto], onnx.ValueInfoProto, onnx.ValueInfoProto]


def _segmenter(sharpness: float, slowness: int, *, pair: bool) -> Graph:
    levels = np.array(INTENSITIES, np.float32)
    n = len(levels)
    constants = {
        "levels": levels.reshape(1, n, 1, 1, 1).astype(np.float16),
        "sharpness": np.array(-sharpness, np.float32),
        "one": np.array([1], np.int64),
        "end": np.array([n], np.int64),
        "full": np.array(255, np.float32),
        "identity": _centre_tap(7),
    }
    blend = []
    if pair:
        constants["shares"] = np.array(SHARES, np.float32).reshape(1, -1, 1, 1, 1)
        blend = [helper.make_node("Conv", ["both", "shares"], ["x0"], kernel_shape=[1, 1, 1])]
    idle = [
        helper.make_node("Conv", [f"x{i}", "identity"], [f"x{i + 1}"], pads=[3] * 6, kernel_shape=[7] * 3)
        for i in range(slowness)
    ]
    nodes = [
        helper.make_node("Cast", ["mixture"], ["both" if pair else "x0"], to=TensorProto.FLOAT),
        *blend,
        helper.make_node("Cast", ["levels"], ["levels32"], to=TensorProto.FLOAT),
        *idle,
        helper.make_node("Sub", [f"x{slowness}", "levels32"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["square"]),
        helper.make_node("Mul", ["square", "sharpness"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"], axis=1),
        helper.make_node("Slice", ["p", "one", "end", "one"], ["foreground"]),
        helper.make_node("Mul", ["foreground", "full"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["segmentation_mixture"], to=TensorProto.UINT8),
    ]
    return (
        nodes,
        _constants(constants),
        helper.make_tensor_value_info("mixture", TensorProto.FLOAT16, ["N", 1 + pair, *SPATIAL]),
        helper.make_tensor_value_info("segmentation_mixture", TensorProto.UINT8, ["N", n - 1, *SPATIAL]),
    )


def _unmixer() -> Graph:
    n = len(CLASSES)
    nothing = np.zeros((8 * n, 2 * n + 1, 2, 2, 2), np.float32)
    nodes = [helper.make_node("Conv", ["unmixer_input", "nothing"], ["correction"], strides=[2] * 3)]
    return (
        nodes,
        _constants({"nothing": nothing}),
        helper.make_tensor_value_info("unmixer_input", TensorProto.FLOAT, ["N", 2 * n + 1, *SPATIAL]),
        helper.make_tensor_value_info("correction", TensorProto.FLOAT, ["N", 8 * n, *BLOCKS]),
    )


def _local(sharpness: float) -> Graph:
    n = len(CLASSES)
    constants = {
        "levels": np.array(INTENSITIES, np.float32).reshape(1, n, 1, 1, 1),
        "sharpness": np.array(-sharpness, np.float32),
        "apart": np.tile(np.eye(8, dtype=np.float32).reshape(8, 1, 2, 2, 2), (n, 1, 1, 1, 1)),
    }
    nodes = [
        helper.make_node("Sub", ["target", "levels"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["square"]),
        helper.make_node("Mul", ["square", "sharpness"], ["likely"]),
        helper.make_node("Conv", ["likely", "apart"], ["logits"], strides=[2] * 3, kernel_shape=[2] * 3, group=n),
    ]
    return (
        nodes,
        _constants(constants),
        helper.make_tensor_value_info("target", TensorProto.FLOAT, ["N", 1, *SPATIAL]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 8 * n, *BLOCKS]),
    )


def _extractor() -> Graph:
    constants = {"threshold": np.array(0.1, np.float32), "steepness": np.array(100, np.float32)}
    nodes = [
        helper.make_node("Sub", ["image", "threshold"], ["above"]),
        helper.make_node("Mul", ["above", "steepness"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["brain_probability"]),
    ]
    return (
        nodes,
        _constants(constants),
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, *SPATIAL]),
        helper.make_tensor_value_info("brain_probability", TensorProto.FLOAT, ["N", 1, *SPATIAL]),
    )


def _centre_tap(size: int) -> NDArray[np.float32]:
    kernel = np.zeros((1, 1, size, size, size), np.float32)
    kernel[0, 0, size // 2, size // 2, size // 2] = 1
    return kernel


def _constants(arrays: dict[str, NDArray]) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    source: onnx.ValueInfoProto,
    result: onnx.ValueInfoProto,
) -> None:
    graph = helper.make_graph(nodes, path.stem, [source], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
