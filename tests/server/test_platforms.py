"""Repositories for Triton's own backends: configurations as Triton parses them, and what does not belong is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from mixpriv.bundle import Bundle
from mixpriv.cli.server.main import main
from mixpriv.engine.plan import Gpu, PlanRecord
from mixpriv.errors import InputError
from mixpriv.server.platforms import PLATFORMS
from mixpriv.server.repository import verify_repository, write_repository
from mixpriv.wire.contract import SegmenterContract
from tests.support.toybundle import write_toy_bundle


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def export(bundle: Bundle, platform: str, folder: Path) -> Path | None:
    """What mixpriv export leaves, as far as a repository needs it."""
    if platform not in ("tensorrt", "openvino"):
        return None
    folder.mkdir()
    if platform == "tensorrt":
        (folder / "segmenter.plan").write_bytes(b"plan")
        settings = {"batch": 3, "shape": list(bundle.grid_shape)}
        gpu = Gpu("NVIDIA Imagined", "9.0")
        record = PlanRecord(bundle.fingerprint, "0", digest(b"plan"), "11.4.0.106", gpu, False, settings, {})
        record.write(folder / "segmenter.plan")
    else:
        for name in ("segmenter.xml", "segmenter.bin"):
            (folder / name).write_bytes(name.encode())
        files = {path.name: digest(path.read_bytes()) for path in folder.iterdir()}
        (folder / "export.json").write_text(json.dumps({"fingerprint": bundle.fingerprint, "files_sha256": files}))
    return folder


def parsed(folder: Path, bundle: Bundle) -> Any:
    text = (folder / bundle.model_name / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_client_finds_the_same_contract_everywhere(bundle: Bundle, tmp_path: Path, platform: str) -> None:
    write_repository(bundle, tmp_path / "r", platform=platform, export=export(bundle, platform, tmp_path / "e"))
    config, contract = parsed(tmp_path / "r", bundle), SegmenterContract.of(bundle)
    parameters = {k: v.string_value for k, v in config.parameters.items()}
    assert contract.parameters.items() <= parameters.items()
    assert (config.name, config.input[0].name, config.output[0].name) == (
        contract.model_name, "mixture", "segmentation_mixture"
    )  # fmt: skip
    assert config.dynamic_batching.default_queue_policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    for dims in (config.input[0].dims, config.model_warmup[0].inputs["mixture"].dims):
        assert tuple(dims) == (1, *bundle.grid_shape)
    file = config.default_model_filename or ("model.py" if platform == "python" else "")
    assert (tmp_path / "r" / bundle.model_name / str(bundle.model_version) / file).is_file()


def test_each_backend_is_told_what_it_needs(bundle: Bundle, tmp_path: Path) -> None:
    configs = {}
    for platform in PLATFORMS:
        folder = tmp_path / platform
        write_repository(bundle, folder, platform=platform, export=export(bundle, platform, tmp_path / f"e-{platform}"))
        configs[platform] = parsed(folder, bundle)
    plan = configs["tensorrt"]
    assert (plan.platform, plan.max_batch_size) == ("tensorrt_plan", 3)
    assert plan.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert list(plan.instance_group[0].profile) == ["0", "1"]
    assert [warmup.batch_size for warmup in plan.model_warmup] == [1, 3]
    assert plan.parameters["execution_context_allocation_strategy"].string_value == "ON_PROFILE_CHANGE"
    assert (configs["openvino"].backend, configs["openvino"].max_batch_size) == ("openvino", 1)
    assert configs["onnxruntime"].platform == "onnxruntime_onnx"
    assert configs["python"].max_batch_size == 1  # answers do not depend on who else asks
    assert configs["python"].instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_AUTO


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("change", ["config", "network", "more", "less"])
def test_what_is_changed_by_hand_is_found(bundle: Bundle, tmp_path: Path, platform: str, change: str) -> None:
    exported, folder = export(bundle, platform, tmp_path / "e"), tmp_path / "r"
    write_repository(bundle, folder, platform=platform, export=exported)
    verify_repository(bundle, folder, platform=platform, export=exported)
    model = folder / bundle.model_name
    network = next(p for p in sorted((model / str(bundle.model_version)).iterdir()) if p.stem == "segmenter")
    if change == "config":
        config = model / "config.pbtxt"
        config.write_text(config.read_text().replace("max_queue_size: 16", "max_queue_size: 17"))
    elif change == "network":
        network.write_bytes(network.read_bytes() + b"\0")
    elif change == "more":
        (model / str(bundle.model_version) / "labels.txt").write_text("x")
    else:
        network.unlink()
    with pytest.raises(InputError, match=r"is missing|is not what is generated from the bundle"):
        verify_repository(bundle, folder, platform=platform, export=exported)


BAD = [
    ("tensorrt", None, "expected the folder of mixpriv export --target tensorrt"),
    ("openvino", None, "expected the folder of mixpriv export --target openvino"),
    ("onnxruntime", "openvino", "it takes the bundle's own network, expected no export"),
    ("tensorrt", "openvino", r"segmenter\.plan is missing"),
    ("python", "openvino", r"segmenter\.plan is missing"),
]


@pytest.mark.parametrize(("platform", "given", "message"), BAD)
def test_an_export_that_does_not_fit(
    bundle: Bundle, tmp_path: Path, platform: str, given: str | None, message: str
) -> None:
    exported = export(bundle, given, tmp_path / "e") if given else None
    with pytest.raises(InputError, match=message):
        write_repository(bundle, tmp_path / "r", platform=platform, export=exported)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("platform", ["tensorrt", "openvino"])
def test_an_export_of_another_network_or_changed_since(bundle: Bundle, tmp_path: Path, platform: str) -> None:
    exported = export(bundle, platform, tmp_path / "e")
    assert exported is not None
    other = write_toy_bundle(tmp_path / "other", sharpness=123)
    with pytest.raises(
        InputError, match=f"from the network {bundle.fingerprint[:12]}, expected {other.fingerprint[:12]}"
    ):
        write_repository(other, tmp_path / "r", platform=platform, export=exported)
    next(p for p in sorted(exported.iterdir()) if p.suffix in (".plan", ".bin")).write_bytes(b"other")
    with pytest.raises(InputError, match=r"expected the file \w+ of its record, got"):
        write_repository(bundle, tmp_path / "r", platform=platform, export=exported)


def test_the_python_model_takes_a_plan_along(bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "r", export=export(bundle, "tensorrt", tmp_path / "e"))
    version = tmp_path / "r" / bundle.model_name / str(bundle.model_version)
    names = {path.name for path in version.iterdir()}
    assert names == {"model.py", "segmenter.onnx", "segmenter.plan", "segmenter.plan.json"}
    config = parsed(tmp_path / "r", bundle)
    assert config.max_batch_size == 3  # the plan's


def test_the_command(bundle: Bundle, tmp_path: Path) -> None:
    command = ["--bundle", str(bundle.directory), "--write-repository", str(tmp_path / "r"), "--platform"]
    assert main([*command, "onnxruntime"]) == 0
    assert main([*command, "tensorrt"]) == 2
    verify = ["--bundle", str(bundle.directory), "--verify-repository", str(tmp_path / "r"), "--platform"]
    assert main([*verify, "onnxruntime"]) == 0
    assert main([*verify, "python"]) == 2
