"""Building and running a plan, on a TensorRT that is a fake: it was not run on a real one yet."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mixpriv.export.example import example_mixture

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.cli.research.main import main
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.engine.plan import PlanRecord
from mixpriv.errors import EngineError, InputError, OutputError

Machine = Callable[..., tuple[Any, Any]]


def build(bundle: Bundle, folder: Path, **settings: Any) -> Path:
    module = importlib.import_module("mixpriv.export.tensorrt_plan")
    cache = settings.pop("timing_cache", None)
    return module.export_plan(bundle, folder, module.PlanSettings(**settings), cache)


def engine(plan: Path, bundle: Bundle) -> Any:
    return importlib.import_module("mixpriv.engine.tensorrt").TensorRtEngine(plan, fingerprint=bundle.fingerprint)


@pytest.mark.parametrize("version", ["10.12.0.36", "11.4.0.106"])
def test_a_plan_answers_as_the_network(bundle: Bundle, empty: Path, machine: Machine, version: str) -> None:
    machine(version)
    plan = build(bundle, empty, batch=2)
    volumes = np.concatenate([example_mixture(bundle, n) for n in range(2)])
    expected = InProcessSegmenter(bundle.segmenter_path, precision="f32").segment(volumes)
    run = engine(plan, bundle)
    for part in (slice(0, 2), slice(1, 2)):  # of either profile
        answer = run(mixture=volumes[part])["segmentation_mixture"]
        assert np.mean(np.abs(answer.astype(int) - expected[part]) <= 1) > 0.99
    record = json.loads((empty / "segmenter.plan.json").read_text())
    assert (record["tensorrt"], record["fingerprint"]) == (version, bundle.fingerprint)
    assert record["settings"] == {
        "batch": 2, "version_compatible": False, "workspace_mib": None, "shape": list(bundle.grid_shape)
    }  # fmt: skip
    assert record["parity"]["tensorrt_with_openvino_f32"]["within_one_level"] > 0.99


def test_sizes_that_it_was_not_built_for_are_refused(bundle: Bundle, empty: Path, machine: Machine) -> None:
    machine()
    run = engine(build(bundle, empty), bundle)
    with pytest.raises(InputError, match=r"built for mixture \(1, 1, 32, 48, 32\) to .*, got mixture \(2, 1, 32"):
        run(mixture=np.concatenate([example_mixture(bundle)] * 2))
    with pytest.raises(InputError, match="mixture: expected float16, got float32"):
        run(mixture=example_mixture(bundle).astype(np.float32))


class TestBuilding:
    def test_says_each_node_that_the_parser_refuses(self, bundle: Bundle, empty: Path, machine: Machine) -> None:
        trt, _ = machine()
        trt.refuse = {"Softmax", "Round"}
        message = (
            r"TensorRT 10\.16\.1\.11 cannot read the graph: node \d+  \(Softmax\): UNSUPPORTED_NODE: no importer "
            r"registered for Softmax; node \d+  \(Round\)"
        )
        with pytest.raises(InputError, match=message):
            build(bundle, empty)
        assert list(empty.parent.iterdir()) == []

    def test_says_why_no_plan_comes_out(self, bundle: Bundle, empty: Path, machine: Machine) -> None:
        trt, _ = machine()
        trt.unbuildable = True
        with pytest.raises(EngineError, match=r"cannot build the plan: Error Code 4: Internal Error \(no opt"):
            build(bundle, empty)

    def test_keeps_no_plan_that_answers_wrongly(self, bundle: Bundle, empty: Path, machine: Machine) -> None:
        trt, _ = machine()
        trt.skewed = True
        with pytest.raises(InputError, match=r"segmenter\.plan: its answer differs from the network's"):
            build(bundle, empty)
        assert list(empty.parent.iterdir()) == []

    def test_needs_a_gpu(self, bundle: Bundle, empty: Path, machine: Machine) -> None:
        _, cuda = machine()
        cuda.fail("cudaErrorInsufficientDriver")
        with pytest.raises(EngineError, match="the GPU cannot be used: cudaErrorInsufficientDriver"):
            build(bundle, empty)

    def test_never_writes_over_another(self, bundle: Bundle, empty: Path, machine: Machine) -> None:
        machine()
        empty.mkdir()
        with pytest.raises(OutputError, match="already exists"):
            build(bundle, empty)

    def test_uses_a_timing_cache_of_its_own_version_only(
        self, bundle: Bundle, tmp_path: Path, machine: Machine
    ) -> None:
        cache = tmp_path / "timings"
        given = []
        for number, version in enumerate(("10.16.1.11", "10.16.1.11", "11.4.0.106")):
            trt, _ = machine(version)
            build(bundle, tmp_path / str(number), timing_cache=cache)
            given.append(trt.caches_given)
        assert given == [[b""], [b"timings of 10.16.1.11"], [b"timings of 10.16.1.11", b""]]
        assert cache.read_bytes() == b"timings of 11.4.0.106"


class TestLoading:
    def test_refuses_a_plan_of_another_tensorrt(self, bundle: Bundle, empty: Path, machine: Machine) -> None:
        machine("10.16.1.11")
        plan = build(bundle, empty)
        machine("11.4.0.106")
        with pytest.raises(InputError, match=r"built with TensorRT 10\.16\.1\.11, here is TensorRT 11\.4\.0\.106"):
            engine(plan, bundle)

    def test_takes_a_version_compatible_one_forward_only(
        self, bundle: Bundle, tmp_path: Path, machine: Machine
    ) -> None:
        for built, here, fits in (("10.16.1.11", "11.4.0.106", True), ("11.4.0.106", "10.16.1.11", False)):
            trt, _ = machine(built)
            plan = build(bundle, tmp_path / built, version_compatible=True)
            assert "VERSION_COMPATIBLE" in trt.flags_given
            machine(here)
            if fits:
                engine(plan, bundle)(mixture=example_mixture(bundle))
            else:
                with pytest.raises(InputError, match=f"built with TensorRT {built}"):
                    engine(plan, bundle)

    def test_refuses_a_plan_of_another_gpu(self, bundle: Bundle, empty: Path, machine: Machine) -> None:
        machine()
        plan = build(bundle, empty)
        machine(gpu="NVIDIA Other")
        with pytest.raises(InputError, match=r"built on NVIDIA Imagined \(compute .* 9\.0\), here is NVIDIA Other"):
            engine(plan, bundle)

    def test_refuses_a_plan_of_another_network_or_file(self, bundle: Bundle, empty: Path, machine: Machine) -> None:
        machine()
        plan = build(bundle, empty)
        record = PlanRecord.read(plan)
        with pytest.raises(InputError, match=r"built from the network .*, expected 000000000000: build it anew"):
            record.check(plan, fingerprint="0" * 64, tensorrt=record.tensorrt, gpu=record.gpu)
        plan.write_bytes(plan.read_bytes() + b"x")
        with pytest.raises(InputError, match=r"expected the file .* of its record, got"):
            engine(plan, bundle)

    @pytest.mark.parametrize(("text", "message"), [(None, "is missing beside it"), ("{}", "not the record of a Tens")])
    def test_needs_the_record(self, tmp_path: Path, text: str | None, message: str) -> None:
        plan = tmp_path / "segmenter.plan"
        if text is not None:
            plan.with_name("segmenter.plan.json").write_text(text)
        with pytest.raises(InputError, match=message):
            PlanRecord.read(plan)

    def test_says_when_the_gpu_is_full(self, bundle: Bundle, empty: Path, machine: Machine) -> None:
        trt, _ = machine()
        plan = build(bundle, empty)
        trt.no_memory = True
        with pytest.raises(EngineError, match="no room on the GPU for its activations"):
            engine(plan, bundle)


@pytest.mark.gpu
@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is None, reason="TensorRT is not installed")
@pytest.mark.parametrize("name", ["brain-t1", "hippocampus"])
def test_on_a_real_gpu(name: str, empty: Path) -> None:
    bundle = load_bundle(name)
    plan = build(bundle, empty, batch=2)
    assert engine(plan, bundle)(mixture=example_mixture(bundle, 1))["segmentation_mixture"].any()


def test_the_command(bundle: Bundle, empty: Path, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine()
    command = ["export", str(bundle.directory), "--target", "tensorrt", "-o", str(empty)]
    assert main([*command, "--batch", "0"]) == 2
    assert main([*command, "--workspace-mib", "512", "--batch", "2"]) == 0
    assert capsys.readouterr().out == f"{empty / 'segmenter.plan'}\n"
    assert main(command) == 5


def test_the_command_without_tensorrt(bundle: Bundle, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(bundle.directory), "--target", "tensorrt", "-o", str(empty)]) == 2
    assert "is not installed here (extra [gpu])" in capsys.readouterr().err


def test_the_command_without_tensorrts_libraries(
    bundle: Bundle, empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        """Finds bindings whose libraries are missing."""

        def find_spec(self, name: str, *_: object) -> None:
            if name == "tensorrt":
                raise ImportError("libnvinfer.so.10: cannot open shared object file\nand more")

    for name in ("tensorrt", "mixpriv.engine.bindings", "mixpriv.export.tensorrt_plan"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert main(["export", str(bundle.directory), "--target", "tensorrt", "-o", str(empty)]) == 2
    assert capsys.readouterr().err.endswith(
        "--target tensorrt: TensorRT cannot be loaded: libnvinfer.so.10: cannot open shared object file\n"
    )
    assert not empty.exists()
