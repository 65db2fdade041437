"""Do all runtimes answer alike? Torch, from the weights that a bundle holds, is what the others are compared with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import torch
from mixpriv.export.checkpoint import load_initial
from mixpriv.export.comparison import Comparison
from mixpriv.export.graphs import ExtractorGraph, Graph, SegmenterGraph, UnmixerGraph
from mixpriv.export.runtimes import Segment, in_onnxruntime
from mixpriv.export.targets import LEAST_WITHIN_ONE_LEVEL, require
from numpy.typing import NDArray
from torch import Tensor, nn

from mixpriv.bundle import Bundle
from mixpriv.engine import load
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.engine.precision import mixed_precision
from mixpriv.training.config import JointConfig, TrainingConfig, load_config
from mixpriv.training.data.augment import one_hot
from mixpriv.training.joint import JointModel
from mixpriv.training.networks import Alone, SpaceToDepthUNet, unmixer_input

PARITY = "parity_with_torch_f64"
"""In bundle.json: network, runtime, and how its answer to an example differs from torch's in float64."""

Parity = dict[str, dict[str, dict[str, float]]]

REFERENCE = "torch, float32"


def measure_parity(spec: JointConfig, graphs: Mapping[str, Graph], folder: Path) -> Parity:
    """Compare each network of a bundle's folder in OpenVINO and ONNX Runtime, float32, with torch in float64.

    Parameters
    ----------
    graphs : the networks in torch, by the names of their files; float64 afterwards

    Raises
    ------
    InputError
        fewer than 99.9 % of the values agree within one level of 255.
    """
    # Torch has no fast convolution in float64, and this is not about size.
    inputs = examples(spec, _smaller(spec.data.crop))
    return {
        name: {runtime: asdict(value) for runtime, value in _compare(graph, inputs[name], folder, name).items()}
        for name, graph in graphs.items()
    }


def _compare(graph: nn.Module, example: Mapping[str, Tensor], folder: Path, name: str) -> dict[str, Comparison]:
    path, level = folder / f"{name}.onnx", 1.0 if name == "segmenter" else 1 / 255
    double = [x if x.dtype == torch.float16 else x.double() for x in example.values()]
    with torch.no_grad():
        expected = graph.double()(*double).numpy()
    arrays = {name: x.numpy() for name, x in example.items()}
    (answer,) = load(path, precision="f32")(**arrays).values()
    answers = {"openvino_f32": answer, "onnxruntime_f32": in_onnxruntime(onnx.load(path))(*arrays.values())}
    return {
        runtime: require(Comparison.of(values, expected, level), LEAST_WITHIN_ONE_LEVEL, f"{path.name}, {runtime}")
        for runtime, values in answers.items()
    }


def torch_graphs(config: TrainingConfig, folder: Path) -> dict[str, Graph]:
    """The networks of a bundle's folder as torch modules, float32, by the names of their files."""
    model = JointModel.of(config.segmenter)
    load_initial(folder, "segmenter").load_into(model)
    graphs = joint_graphs(model)
    if config.extractor is not None:
        brain = SpaceToDepthUNet(1, 1, config.extractor.filters)
        load_initial(folder, "extractor").load_into(brain)
        graphs["extractor"] = ExtractorGraph(brain)
        graphs["extractor"].eval()
    return graphs


def joint_graphs(model: JointModel) -> dict[str, Graph]:
    """S and D as they ship, by the names of their files."""
    assert model.segmenter is not None  # noqa: S101 - only a control has none
    return {"segmenter": SegmenterGraph(model.segmenter).eval(), "unmixer": UnmixerGraph(model.unmixer).eval()}


def runtimes(bundle: Bundle, config: TrainingConfig) -> dict[str, Segment]:
    """The bundle's segmenter in every runtime that there is on a CPU; torch first."""
    graph = torch_graphs(config, bundle.directory)["segmenter"]
    model = onnx.load(bundle.segmenter_path)

    @torch.no_grad()
    def in_torch(mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        return np.asarray(graph(torch.from_numpy(np.array(mixture))).numpy())

    return {
        REFERENCE: in_torch,
        "ONNX Runtime, float32": in_onnxruntime(model),
        "OpenVINO, float32": InProcessSegmenter(bundle.segmenter_path, precision="f32").segment,
        "OpenVINO, as served": InProcessSegmenter(bundle.segmenter_path).segment,
        "ONNX Runtime, FP16 convolutions": in_onnxruntime(mixed_precision(model)),
    }


def torch_segmenter(config: JointConfig, run: Path) -> Callable[[NDArray[np.float16]], NDArray[np.uint8]]:
    """S of a run, or D alone of a control's: image (D, H, W) to answer (C-1, D, H, W), computed by torch."""
    model = JointModel.of(config)
    load_initial(run, "segmenter").load_into(model)
    graph = SegmenterGraph(model.segmenter or Alone(model.unmixer)).eval()

    @torch.no_grad()
    def answer(image: NDArray[np.float16]) -> NDArray[np.uint8]:
        result: NDArray[np.uint8] = graph(torch.from_numpy(image)[None, None])[0].numpy()
        return result

    return answer


def examples(spec: JointConfig, shape: tuple[int, int, int]) -> dict[str, dict[str, Tensor]]:
    """Inputs by name of every network, smooth and random, with the statistics of real ones."""
    classes, modalities = len(spec.task.classes), len(spec.task.modalities)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, max(2 * classes + 1, modalities), *(n // 8 for n in shape), generator=generator)
    fine = nn.functional.interpolate(coarse, shape, mode="trilinear")
    image = fine[:, :modalities].half().float()
    reference = one_hot(fine[:, classes : 2 * classes].argmax(1), classes)
    weight = 0.5
    mixed = weight * (8 * fine[:, :classes]).softmax(1) + (1 - weight) * reference
    known = unmixer_input(mixed, reference, torch.full_like(image[:, :1], weight))
    seen = {"target": image} if spec.networks.unmixer_sees == "target" else {}
    return {
        "segmenter": {"mixture": image.half()},
        "unmixer": {"unmixer_input": known, **seen},
        "local": {"target": image},
        "extractor": {"image": image[:, :1]},
    }


def _smaller(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    d, h, w = (max(32, n // 32 * 16) for n in shape)
    return d, h, w


def update_record(folder: Path) -> Parity:
    """Measure a bundle's parity anew and write it into its bundle.json; its config must be a shipped one."""
    path = folder / "bundle.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record.pop("parity_openvino_f32_with_torch", None)
    config = load_config(record["name"])
    parity = measure_parity(config.segmenter, torch_graphs(config, folder), folder)
    path.write_text(json.dumps(record | {PARITY: parity}, indent=2) + "\n", encoding="utf-8")
    return parity


if __name__ == "__main__":
    print(json.dumps(update_record(Path(sys.argv[1])), indent=2))
