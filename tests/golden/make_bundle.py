"""How the files in `bundle` were made, once: ``python -m tests.golden.make_bundle``.

The segmenter's bytes seed every draw, and another release of onnx may write other bytes: to make them again changes
all digests. Every number in the networks is a small multiple of a power of two, so that their answers are exact.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mixpriv.bundle import SCHEMA, fingerprint_of
from mixpriv.protection.reference import ReferenceModel
from tests.golden.phantoms import LEVELS, grid_positions, labels_at

FOLDER = Path(__file__).parent / "bundle"
CLASSES = ("background", "CSF", "grey matter", "nuclei", "white matter")
GRID, SPACING_MM, STEP = (24, 32, 24), 8.0, 2
SPATIAL, BLOCKS = ["D", "H", "W"], ["D/2", "H/2", "W/2"]
HAT = [("Sub", "levels", "difference"), ("Abs", None, "distance"), ("Mul", "steepness", "fall"),
       ("Sub", "one", "below"), ("Neg", None, "height"), ("Relu", None, "hat")]  # fmt: skip
"""Of each class: 1 at its intensity, falling linearly to 0 at its neighbours'; all classes together are 1."""


def main() -> None:
    """Write all files of the bundle."""
    FOLDER.mkdir(exist_ok=True)
    n = len(CLASSES)
    hat = {
        "levels": np.linspace(0, 1, n, dtype=np.float32).reshape(1, n, 1, 1, 1),
        "steepness": np.array(n - 1, np.float32),
        "one": np.array(1, np.float32),
    }
    _save(
        "segmenter",
        [helper.make_node("Cast", ["mixture"], ["x"], to=TensorProto.FLOAT), *_hat("x"),
         helper.make_node("Slice", ["hat", "from", "to", "axis"], ["foreground"]),
         helper.make_node("Mul", ["foreground", "full"], ["scaled"]),
         helper.make_node("Round", ["scaled"], ["rounded"]),
         helper.make_node("Cast", ["rounded"], ["segmentation_mixture"], to=TensorProto.UINT8)],
        {**hat, "from": np.array([1]), "to": np.array([n]), "axis": np.array([1]), "full": np.array(255, np.float32)},
        {"mixture": (TensorProto.FLOAT16, [1, *SPATIAL])},
        {"segmentation_mixture": (TensorProto.UINT8, [n - 1, *SPATIAL])},
    )  # fmt: skip
    _save(
        "unmixer",
        [*_hat("target"),
         helper.make_node("Conv", ["hat", "own"], ["seen"], strides=[2] * 3, kernel_shape=[2] * 3, group=n),
         helper.make_node("Conv", ["unmixer_input", "linear"], ["told"], strides=[2] * 3, kernel_shape=[2] * 3),
         helper.make_node("Add", ["seen", "told"], ["correction"])],
        {**hat, "own": _blocks(n, own=True), "linear": _blocks(n, own=False)},
        {"unmixer_input": (TensorProto.FLOAT, [2 * n + 1, *SPATIAL]), "target": (TensorProto.FLOAT, [1, *SPATIAL])},
        {"correction": (TensorProto.FLOAT, [8 * n, *BLOCKS])},
    )  # fmt: skip
    _save(
        "extractor",
        [helper.make_node("Mul", ["image", "steepness"], ["steep"]),
         helper.make_node("Clip", ["steep", "zero", "one"], ["brain_probability"])],
        {"steepness": np.array(16, np.float32), "zero": np.array(0, np.float32), "one": np.array(1, np.float32)},
        {"image": (TensorProto.FLOAT, [1, *SPATIAL])},
        {"brain_probability": (TensorProto.FLOAT, [1, *SPATIAL])},
    )  # fmt: skip
    _write_reference_model()
    _write_description()


def _hat(source: str) -> list[onnx.NodeProto]:
    nodes = []
    for kind, constant, result in HAT:
        nodes.append(helper.make_node(kind, [source, constant] if constant else [source], [result]))
        source = result
    return nodes


def _blocks(n: int, *, own: bool) -> NDArray[np.float32]:
    """A convolution's weights that take blocks of 2x2x2 voxels apart, a channel for each voxel."""
    weights = np.zeros((8 * n, 1 if own else 2 * n + 1, 2, 2, 2), np.float32)
    for channel in range(8 * n):
        weights[(channel, 0 if own else channel // 8, *np.unravel_index(channel % 8, (2, 2, 2)))] = 4 if own else 1
    return weights


def _write_reference_model() -> None:
    shape = tuple(size // STEP for size in GRID)
    labels = labels_at(grid_positions(shape, STEP * SPACING_MM))
    level = (LEVELS / LEVELS.max()).astype(np.float32)
    ReferenceModel(
        atlas=np.stack([(labels == value) * np.uint8(255) for value in range(len(CLASSES))]).astype(np.uint8),
        step=float(STEP),
        tissue_of=np.arange(len(CLASSES), dtype=np.uint8),
        fold_rank=np.array([-1, 0, 1, -1, 2], np.int8),
        intensity_range=np.stack([level * np.float32(0.875), level * np.float32(1.125)], axis=1),
        warp_mm=4.0,
        grid_shape=GRID,
        spacing_mm=SPACING_MM,
    ).save(FOLDER / "reference.npz")


def _write_description() -> None:
    fields = {
        "schema": SCHEMA,
        "name": "golden-t1",
        "version": "1.0.0",
        "fingerprint": fingerprint_of(FOLDER / "segmenter.onnx"),
        "classes": CLASSES,
        "modalities": ["T1w"],
        "grid_shape": GRID,
        "spacing_mm": SPACING_MM,
        "multiple": 8,
        "weight_range": [0.3, 0.7],
        "shielded": {
            "weight_range": [0.2, 0.4],
            "warp_mm": 6.0,
            "risk_limit": 9.0,
            "strangers": {"mean": 0.25, "std": 0.0625},
        },
        "unmixer_sees": "target",
        "unmixer_alone": True,
        "unmixer_sharpness": 8.0,
        "alignment": {"std_mm": [31.0, 39.0, 30.0], "centre_voxel": [11.5, 15.5, 11.5]},
        "extractor_spacing_mm": SPACING_MM,
        "licence": "Apache-2.0",
    }
    (FOLDER / "bundle.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


Port = dict[str, tuple[int, list[int | str]]]


def _save(
    name: str, nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]], sources: Port, results: Port
) -> None:
    tensors = [numpy_helper.from_array(array, key) for key, array in constants.items()]
    inputs, outputs = (
        [helper.make_tensor_value_info(key, kind, ["N", *shape]) for key, (kind, shape) in ports.items()]
        for ports in (sources, results)
    )
    graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, FOLDER / f"{name}.onnx")


if __name__ == "__main__":
    main()
