"""Pack trained weights into a bundle: three ONNX files, the reference model and bundle.json, with a parity record."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
from mixpriv.export.checkpoint import load_initial
from mixpriv.export.graphs import ExtractorGraph, Graph, LocalGraph, to_onnx
from mixpriv.export.parity import PARITY, examples, joint_graphs, measure_parity
from torch import nn

from mixpriv.bundle import SCHEMA, bundle_of, fingerprint_of
from mixpriv.bundle_fields import SIDES, check_field
from mixpriv.bundle_files import digests
from mixpriv.engine.onnx_check import MOST_BYTES
from mixpriv.errors import InputError
from mixpriv.reading import read_file
from mixpriv.schema import FieldError
from mixpriv.training.config import JointConfig, TrainingConfig
from mixpriv.training.impostors import measure_impostors
from mixpriv.training.joint import JointModel
from mixpriv.training.networks import SpaceToDepthUNet, multiply_adds

MULTIPLE = 16


def round_weights(network: nn.Module) -> nn.Module:
    """Round all parameters to FP16, as they ship (in place)."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    return network.eval()


def pack(
    config: TrainingConfig,
    joint: Path,
    extractor: Path | None,
    folder: Path,
    version: str,
    data: Path | None = None,
    *,
    local: Path | None = None,
) -> Path:
    """Write a bundle from the averaged weights of a joint run and, for whole heads, of an extractor run.

    ``joint`` and ``extractor`` are run folders as ``mixpriv train`` writes them, or bundles whose networks are taken
    over. ``data``: the training data, on which it is measured how alike mode shielded's mixtures are to strangers'
    scans. ``local``: the run folder of mode local's network, if the bundle shall have one. Returns the bundle's folder.

    Raises
    ------
    InputError
        no weights there, weights of another shape than the config's, an extractor too many or missing, an unmixer that
        sees more than a client may use, or another runtime's answers are not torch's.
    """
    if (config.extractor is None) != (extractor is None):
        raise InputError(f"config {config.name}: expected {'no ' if extractor else 'an '}extractor run")
    shielded = config.raw["bundle"].get("shielded")
    if (data is None) != ("risk_limit" not in (shielded or {})):
        raise InputError(
            f"config {config.name}: expected {'training data, to measure' if data is None else 'no data without'} "
            "shielded.risk_limit"
        )
    _check_said(config, version, local)
    model, graphs, trained = _networks(config, joint, extractor, local)
    reference = read_file(joint / "reference.npz", MOST_BYTES)  # before anything goes: it may be the same folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in SIDES:
        (folder / name).unlink(missing_ok=True)  # of an earlier call
    (folder / "reference.npz").write_bytes(reference)
    cost = _write_graphs(config.segmenter, graphs, folder)
    if config.shielded is not None and data is not None:
        shielded = {**shielded, "strangers": measure_impostors(config.segmenter, config.shielded, data)}
    record = _record(config, folder, version) | {
        "files": digests(folder),
        "unmixer_sharpness": float(model.unmixer.sharpness),
        **({} if shielded is None else {"shielded": shielded}),
        "multiply_adds": cost,
        PARITY: measure_parity(config.segmenter, graphs, folder),
        "trained": trained,
    }
    text = json.dumps(record, indent=2) + "\n"
    bundle_of(json.loads(text), folder)  # whoever gets the bundle reads it with the same checks
    (folder / "bundle.json").write_text(text, encoding="utf-8")
    return folder


def _networks(
    config: TrainingConfig, joint: Path, extractor: Path | None, local: Path | None
) -> tuple[JointModel, dict[str, Graph], dict[str, object]]:
    """The joint model, the graphs of all networks by name, and what is told of their training."""
    model, steps = _loaded(JointModel.of(config.segmenter), joint, "segmenter")
    graphs, trained = joint_graphs(model), dict[str, object](steps=steps, machine=platform.machine())
    if local is not None:
        alone, trained["local_steps"] = _loaded(JointModel.of(config.local), local, "local")
        graphs["local"] = LocalGraph(alone.unmixer).eval()
    if config.extractor is not None and extractor is not None:
        brain = SpaceToDepthUNet(1, 1, config.extractor.filters)
        brain, trained["extractor_steps"] = _loaded(brain, extractor, "extractor")
        graphs["extractor"] = ExtractorGraph(brain)
    return model, graphs, trained


T = TypeVar("T", bound=nn.Module)


def _loaded(network: T, run: Path, name: str) -> tuple[T, int]:
    """A network with a run's weights as they ship, and the steps behind them."""
    initial = load_initial(run, name)
    initial.load_into(network)
    round_weights(network)
    return network, initial.steps


def _check_said(config: TrainingConfig, version: str, local: Path | None) -> None:
    """Refuse what no reader of the bundle would take, before the work is done."""
    if config.segmenter.networks.unmixer_sees not in ("labels", "target"):
        raise InputError(
            f"config {config.name}: unmixer_sees: expected labels or target in a bundle, others do not ship"
        )
    if local is not None and _does_both(config.segmenter):
        raise InputError(f"config {config.name}: its unmixer does without an answer: expected no local run")
    for name, value in {"name": config.name, "version": version, **config.raw["bundle"]}.items():
        try:
            check_field(name, value)
        except FieldError as error:
            raise InputError(f"config {config.name}: bundle.{error}") from None


def _write_graphs(spec: JointConfig, graphs: Mapping[str, Graph], folder: Path) -> dict[str, int]:
    """Write each network's ONNX file; returns the multiply-adds of S and D, and local's, for so many voxels."""
    inputs = examples(spec, spec.data.crop)
    for name, graph in graphs.items():
        example = inputs[name]
        onnx.save(to_onnx(graph, tuple(example.values()), list(example)), folder / f"{name}.onnx")
    counted = [name for name in ("segmenter", "unmixer", "local") if name in graphs]
    cost = {name: multiply_adds(graphs[name], *inputs[name].values()) for name in counted}
    return cost | {"voxels": int(np.prod(spec.data.crop))}


def _does_both(spec: JointConfig) -> bool:
    """Whether D learned to do without an answer, so that it is mode local's network, too."""
    return spec.lone_unmixer and spec.mixing.plain_share > 0


def _record(config: TrainingConfig, folder: Path, version: str) -> dict[str, object]:
    spec, said = config.segmenter, config.raw["bundle"]
    record = {
        "schema": SCHEMA,
        "name": config.name,
        "version": version,
        "fingerprint": fingerprint_of(folder / "segmenter.onnx"),
        "classes": list(spec.task.classes),
        "modalities": list(spec.task.modalities),
        "grid_shape": list(spec.task.grid_shape),
        "spacing_mm": spec.task.spacing_mm,
        "multiple": MULTIPLE,
        "unmixer_sees": spec.networks.unmixer_sees,
        "unmixer_alone": _does_both(spec),
        **said,
        "config": config.raw,
    }
    if spec.data.region is not None:
        region = spec.data.region
        return record | {"crop": {"region": region.name, "min_mm": list(region.min_mm), "max_mm": list(region.max_mm)}}
    assert spec.task.alignment is not None  # noqa: S101 - so a config is read
    return record | {
        "alignment": asdict(spec.task.alignment),
        "extractor_spacing_mm": None if config.extractor is None else config.extractor.spacing_mm,
    }
