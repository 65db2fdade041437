"""A bundle's segmenter as a TensorRT plan for the GPU of this machine, 10.12 to 11.x.

Not run on TensorRT yet: the names and arguments used here are checked against NVIDIA's bindings of three versions, the
flow with a fake that fails where the real one does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from mixpriv.export.atomic_folder import new_folder
from mixpriv.export.comparison import Comparison
from mixpriv.export.example import example_mixture
from mixpriv.export.targets import LEAST_WITHIN_ONE_LEVEL_MIXED, require, require_network

from mixpriv.bundle import Bundle
from mixpriv.engine.bindings import trt
from mixpriv.engine.cuda import current_gpu
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.engine.plan import PLAN, PlanRecord
from mixpriv.engine.precision import mixed_precision
from mixpriv.engine.tensorrt import TensorRtEngine
from mixpriv.errors import EngineError, InputError


@dataclass(frozen=True)
class PlanSettings:
    """How a plan is built.

    Attributes
    ----------
    batch : most volumes at once; above 1 there is an optimisation profile for one volume and one for more
    version_compatible : later versions of TensorRT may load it, a little slower
    workspace_mib : most scratch memory of a layer; None for TensorRT's own limit
    """

    batch: int = 1
    version_compatible: bool = False
    workspace_mib: int | None = None


class Log(trt.ILogger):  # type: ignore[misc] # a class of unknown type
    """Keeps TensorRT's errors, which say more than the None that its calls return."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT."""
        if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
            self.errors.append(" ".join(msg.split()))


def export_plan(bundle: Bundle, folder: Path, settings: PlanSettings, timing_cache: Path | None = None) -> Path:
    """Build ``segmenter.plan`` on this machine's GPU, with its record beside it; minutes.

    Parameters
    ----------
    folder : made by this
    timing_cache : read if it exists and fits, and written: the next build of the same layers is much faster

    Returns
    -------
    Path
        the plan

    Raises
    ------
    InputError
        TensorRT's parser refuses the graph, or the plan's answer is not the network's.
    EngineError
        no GPU, or TensorRT cannot build the plan.
    OutputError
        the folder exists already, or cannot be written.
    """
    require_network(bundle)
    gpu = current_gpu()
    graph = mixed_precision(onnx.load(bundle.segmenter_path)).SerializeToString()
    with new_folder(folder) as staged:
        built, cache = _build(graph, bundle, settings, _read(timing_cache))
        record = PlanRecord(
            fingerprint=bundle.fingerprint,
            graph_sha256=hashlib.sha256(graph).hexdigest(),
            plan_sha256=hashlib.sha256(built).hexdigest(),
            tensorrt=trt.__version__,
            gpu=gpu,
            version_compatible=settings.version_compatible,
            settings=asdict(settings) | {"shape": list(bundle.grid_shape)},
            parity={},
        )
        (staged / PLAN).write_bytes(built)
        record.write(staged / PLAN)
        if timing_cache is not None:
            timing_cache.write_bytes(cache)
        parity = {"tensorrt_with_openvino_f32": asdict(_compare(bundle, staged / PLAN))}
        replace(record, parity=parity).write(staged / PLAN)
    return folder / PLAN


def _build(graph: bytes, bundle: Bundle, settings: PlanSettings, timing_cache: bytes) -> tuple[bytes, bytes]:
    """The plan and the timing cache."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(network, log, graph)
    config = builder.create_builder_config()
    if settings.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    _add_profiles(builder, config, network, bundle, settings.batch)
    cache = config.create_timing_cache(timing_cache)
    if not config.set_timing_cache(cache, False):
        # Of another TensorRT or GPU: begin a new one.
        config.set_timing_cache(config.create_timing_cache(b""), False)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise EngineError(f"TensorRT {trt.__version__} cannot build the plan: {_last(log.errors)}")
    return bytes(built), bytes(config.get_timing_cache().serialize())


def _parse(network: trt.INetworkDefinition, log: Log, graph: bytes) -> None:
    parser = trt.OnnxParser(network, log)
    parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)  # a version-compatible plan can hold no plugin
    if not parser.parse(graph):
        errors = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
        raise InputError(f"TensorRT {trt.__version__} cannot read the graph: {'; '.join(errors) or _last(log.errors)}")


def _describe(error: trt.ParserError) -> str:
    where = f"node {error.node()} {error.node_name()} ({error.node_operator()})"
    return f"{where}: {error.code().name}: {' '.join(error.desc().split())}"


def _add_profiles(
    builder: trt.Builder,
    config: trt.IBuilderConfig,
    network: trt.INetworkDefinition,
    bundle: Bundle,
    batch: int,
) -> None:
    """Clients send volumes of the bundle's grid and no others: each profile is for that shape alone."""
    name = network.get_input(0).name
    for low, high in ((1, 1), (2, batch))[: min(batch, 2)]:
        profile = builder.create_optimization_profile()
        least, best, most = ((n, len(bundle.modalities), *bundle.grid_shape) for n in (low, high, high))
        profile.set_shape(name, least, best, most)
        if config.add_optimization_profile(profile) < 0:
            raise InputError(f"{name}: TensorRT refuses the shapes {least} to {most}")


def _compare(bundle: Bundle, plan: Path) -> Comparison:
    """Run the plan once: how its answer differs from the network's in float32."""
    example = example_mixture(bundle)
    expected = InProcessSegmenter(bundle.segmenter_path, precision="f32").segment(example)
    engine = TensorRtEngine(plan, fingerprint=bundle.fingerprint)
    answer = np.asarray(engine(mixture=example)["segmentation_mixture"])
    return require(Comparison.of(answer, expected, 1.0), LEAST_WITHIN_ONE_LEVEL_MIXED, plan.name)


def _read(timing_cache: Path | None) -> bytes:
    return timing_cache.read_bytes() if timing_cache is not None and timing_cache.is_file() else b""


def _last(errors: Sequence[str]) -> str:
    return errors[-1] if errors else "it says nothing"
