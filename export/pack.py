"""Pack trained weights into a bundle: three ONNX files, the reference model and bundle.json, with a parity record."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from mixpriv.export.graphs import ExtractorGraph, SegmenterGraph, UnmixerGraph, to_onnx
from mixpriv.export.initial import load_initial
from numpy.typing import NDArray
from torch import Tensor, nn

from mixpriv.bundle import SCHEMA, fingerprint_of
from mixpriv.engine import load
from mixpriv.errors import InputError
from mixpriv.training.config import TrainingConfig
from mixpriv.training.joint import JointConfig, JointModel
from mixpriv.training.loop import Initial
from mixpriv.training.networks import SpaceToDepthUNet, multiply_adds, unmixer_input

MULTIPLE = 16


@dataclass(frozen=True)
class Comparison:
    """Two runtimes' answers: largest and mean absolute difference, and the share of voxels within one level."""

    largest: float
    mean: float
    within_one_level: float

    @staticmethod
    def of(ours: NDArray[np.generic], theirs: NDArray[np.generic], level: float) -> Comparison:
        """Compare two arrays of one shape; ``level`` is one quantisation step in their unit."""
        difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        share = float(np.mean(difference <= level * (1 + 1e-9)))
        return Comparison(float(difference.max()), float(difference.mean()), share)


def round_weights(network: nn.Module) -> nn.Module:
    """Round all parameters to FP16, as they ship (in place)."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    return network.eval()


def export_graph(graph: nn.Module, example: Tensor, names: tuple[str, str], path: Path, level: float) -> Comparison:
    """Write one ONNX file and compare OpenVINO (float32) with torch on the example.

    Raises
    ------
    InputError
        fewer than 99.9 % of the values agree within one level of 255.
    """
    onnx.save(to_onnx(graph, example, *names), path)
    with torch.no_grad():
        expected = graph(example).numpy()
    answer = load(path, precision="f32")(**{names[0]: example.numpy()})[names[1]]
    comparison = Comparison.of(answer, expected, level)
    if comparison.within_one_level < 0.999:
        raise InputError(f"{path.name}: OpenVINO and torch differ: {comparison}")
    return comparison


def pack(config: TrainingConfig, joint: Path, extractor: Path | None, folder: Path, version: str) -> Path:
    """Write a bundle from the averaged weights of a joint run and, for heads, of an extractor run.

    ``joint`` and ``extractor`` are run folders as ``mixpriv train`` writes them, or bundles whose networks are taken
    over. Returns the bundle's folder.

    Raises
    ------
    InputError
        no weights there, weights of another shape than the config's, or an extractor too many or missing.
    """
    if (config.extractor is None) != (extractor is None):
        raise InputError(f"config {config.name}: expected {'no ' if extractor else 'an '}extractor run")
    folder.mkdir(parents=True, exist_ok=True)
    initial = load_initial(joint, "segmenter")
    parity, cost = _pack_joint(config.segmenter, initial, folder)
    trained: dict[str, object] = {"steps": initial.steps, "machine": platform.machine()}
    if config.extractor is not None and extractor is not None:
        initial = load_initial(extractor, "extractor")
        brain = SpaceToDepthUNet(1, 1, config.extractor.filters)
        initial.load_into(brain)
        image, _ = _examples(config.segmenter.crop, len(config.segmenter.classes))
        graph, names = ExtractorGraph(round_weights(brain)), ("image", "brain_probability")
        parity["extractor"] = export_graph(graph, image, names, folder / "extractor.onnx", 1 / 255)
        trained["extractor_steps"] = initial.steps
    (folder / "reference.npz").write_bytes((joint / "reference.npz").read_bytes())
    record = _record(config, folder, version) | {
        "parity_openvino_f32_with_torch": {name: asdict(value) for name, value in parity.items()},
        "multiply_adds": cost,
        "trained": trained,
    }
    (folder / "bundle.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder


def _pack_joint(spec: JointConfig, initial: Initial, folder: Path) -> tuple[dict[str, Comparison], dict[str, int]]:
    """Write S and D; returns their parity and their multiply-adds for so many voxels."""
    model = JointModel.of(spec)
    initial.load_into(model)
    round_weights(model)
    image, mixed = _examples(spec.crop, len(spec.classes))
    parity = {
        "segmenter": export_graph(
            SegmenterGraph(model.segmenter), image.half(), ("mixture", "segmentation_mixture"),
            folder / "segmenter.onnx", 1.0,
        ),
        "unmixer": export_graph(
            UnmixerGraph(model.unmixer), mixed, ("unmixer_input", "probabilities"), folder / "unmixer.onnx", 1 / 255
        ),
    }  # fmt: skip
    cost = {"segmenter": multiply_adds(model.segmenter, image), "unmixer": multiply_adds(model.unmixer, mixed)}
    return parity, cost | {"voxels": int(np.prod(spec.crop))}


def torch_segmenter(config: JointConfig, run: Path) -> Callable[[NDArray[np.float16]], NDArray[np.uint8]]:
    """S of a run (a control's, another method's), image (D, H, W) to answer (C-1, D, H, W), computed by torch."""
    model = JointModel.of(config)
    load_initial(run, "segmenter").load_into(model)
    graph = SegmenterGraph(model.segmenter).eval()

    @torch.no_grad()
    def answer(image: NDArray[np.float16]) -> NDArray[np.uint8]:
        result: NDArray[np.uint8] = graph(torch.from_numpy(image)[None, None])[0].numpy()
        return result

    return answer


def _examples(shape: tuple[int, int, int], classes: int) -> tuple[Tensor, Tensor]:
    """A smooth random image (1,1,D,H,W) and unmixer input (1,2C+1,D,H,W) with the statistics of real ones."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 2 * classes + 1, *(n // 8 for n in shape), generator=generator)
    fine = nn.functional.interpolate(coarse, shape, mode="trilinear")
    image = fine[:, :1].half().float()
    reference = nn.functional.one_hot(fine[:, classes : 2 * classes].argmax(1), classes).permute(0, 4, 1, 2, 3).float()
    weight = 0.5
    mixed = weight * (8 * fine[:, :classes]).softmax(1) + (1 - weight) * reference
    return image, unmixer_input(mixed, reference, torch.full_like(image, weight))


def _record(config: TrainingConfig, folder: Path, version: str) -> dict[str, object]:
    spec, said = config.segmenter, config.raw["bundle"]
    record = {
        "schema": SCHEMA,
        "name": config.name,
        "version": version,
        "fingerprint": fingerprint_of(folder / "segmenter.onnx"),
        "classes": list(spec.classes),
        "modalities": ["T1w"],
        "grid_shape": list(spec.grid_shape),
        "spacing_mm": spec.spacing_mm,
        "multiple": MULTIPLE,
        **said,
        "config": config.raw,
    }
    if spec.region is not None:
        region = spec.region
        return record | {"crop": {"region": region.name, "min_mm": list(region.min_mm), "max_mm": list(region.max_mm)}}
    assert spec.alignment is not None  # noqa: S101 - so a config is read
    assert config.extractor is not None  # noqa: S101
    return record | {
        "alignment": asdict(spec.alignment),
        "extractor_spacing_mm": config.extractor.spacing_mm,
    }
