"""What a server gets is recorded behind a real connection, and all that the contract does not need is found in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from mixpriv.audit.attacks import side_channels
from mixpriv.audit.exchange import Call, beyond_contract, identifying_parts, recording
from mixpriv.bundle import Bundle
from mixpriv.client.pipeline import open_pipeline
from mixpriv.client.segment import segment
from mixpriv.key import ClientKey
from mixpriv.protection.modes import Mixup, Mode, Plain, Shielded
from mixpriv.wire import servers, transport
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.token import Token
from tests.audit.conftest import BUDGET, Stage
from tests.support.phantom import brain_scan, write_reference_model
from tests.support.toybundle import write_toy_bundle

IMAGE = np.zeros((1, 16, 32, 16), np.float16)
UNKNOWN = b"\xca\x3e\x07patient"
"""A field that no version of the protocol has: number 1001, seven bytes."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = write_toy_bundle(tmp_path_factory.mktemp("toy"))
    write_reference_model(bundle)
    return bundle


@pytest.fixture
def contract(bundle: Bundle) -> SegmenterContract:
    return SegmenterContract.of(bundle)


def an_id(request: Any) -> None:
    request.id = "patient"


def a_parameter(request: Any) -> None:
    request.parameters["patient"].string_param = "x"


def a_parameter_of_the_input(request: Any) -> None:
    request.inputs[0].parameters["patient"].string_param = "x"


def a_parameter_of_the_output(request: Any) -> None:
    request.outputs[0].parameters["patient"].int64_param = 7


def a_priority(request: Any) -> None:
    request.parameters["priority"].uint64_param = 7


def another_tensor(request: Any) -> None:
    request.inputs.add(name="patient", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(b"x")


def more_bytes(request: Any) -> None:
    request.raw_input_contents[0] += b"patient"


def a_longer_name(request: Any) -> None:
    request.inputs[0].name += "_of_patient"


def another_version(request: Any) -> None:
    request.model_version = "7"


def an_unknown_field(request: Any) -> None:
    request.MergeFromString(UNKNOWN)


def empty_contents(request: Any) -> None:
    request.inputs[0].contents.SetInParent()


ADDED: dict[Callable[[Any], None], list[str]] = {
    an_id: ["id"],
    a_parameter: ["parameters"],
    a_parameter_of_the_input: ["inputs.parameters"],
    a_parameter_of_the_output: ["outputs.parameters"],
    a_priority: ["parameters"],
    another_tensor: ["inputs is another", "raw_input_contents is another"],
    more_bytes: ["raw_input_contents is another"],
    a_longer_name: ["inputs is another"],
    another_version: ["model_version is another"],
    an_unknown_field: ["bytes that are no field"],
    empty_contents: ["inputs.contents"],
}


def adding(change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client's encoder put something into every request."""
    for module in (transport, servers):
        encode = module.encode_request

        def changed(*arguments: Any, encode: Any = encode) -> Any:
            request = encode(*arguments)
            change(request)
            return request

        monkeypatch.setattr(module, "encode_request", changed)


class Adding(grpc.UnaryUnaryClientInterceptor):
    """Puts a header into every call."""

    def __init__(self, key: str, value: str | bytes) -> None:
        self.header = key, value

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=[*(details.metadata or ()), self.header]), request)


def with_header(key: str, value: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every channel that is opened put a header into every call."""
    opened = grpc.insecure_channel

    def insecure_channel(*arguments: Any, **options: Any) -> Any:
        return grpc.intercept_channel(opened(*arguments, **options), Adding(key, value))

    monkeypatch.setattr(grpc, "insecure_channel", insecure_channel)


class TestRequests:
    def test_a_request_says_nothing_beyond_the_contract(self, contract: SegmenterContract) -> None:
        assert identifying_parts(IMAGE, contract) == []

    @pytest.mark.parametrize("change", ADDED)
    def test_what_somebody_adds_is_found(self, change: Callable[[Any], None], contract: SegmenterContract) -> None:
        with recording(contract) as (address, calls), transport.GrpcSegmenter(address, contract) as segmenter:
            segmenter.segment(IMAGE[None])
        (call,) = (call for call in calls if call.method == "ModelInfer")
        request = transport.encode_request(contract, IMAGE[None])
        assert call.message == request.SerializeToString(), "what is recorded is what is encoded"
        change(request)
        found = beyond_contract(replace(call, message=request.SerializeToString()), contract)
        assert found == [f"ModelInfer: {name}" for name in ADDED[change]]

    @pytest.mark.parametrize("change", [an_id, a_parameter, an_unknown_field])
    def test_it_is_found_behind_the_connection(
        self, change: Callable[[Any], None], contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adding(change, monkeypatch)
        assert identifying_parts(IMAGE, contract) == [f"ModelInfer: {name}" for name in ADDED[change]]

    def test_a_field_said_twice_is_found(self, contract: SegmenterContract) -> None:
        message = transport.encode_request(contract, IMAGE[None]).SerializeToString()
        hidden = b"\x0a\x07patient" + message  # the model's name, of which the last one counts
        assert beyond_contract(Call("ModelInfer", (), hidden), contract) == ["ModelInfer: bytes that are no field"]

    def test_a_call_that_is_not_needed_is_found(self, contract: SegmenterContract) -> None:
        assert beyond_contract(Call("ServerMetadata", (), b""), contract) == ["ServerMetadata: the call"]


class TestHeaders:
    @pytest.mark.parametrize(
        ("key", "value"), [("patient", "x"), ("patient-bin", b"x"), ("x-forwarded-for", "10.0.0.1")]
    )
    def test_a_header_that_somebody_adds_is_found(
        self, key: str, value: str | bytes, contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with_header(key, value, monkeypatch)
        assert identifying_parts(IMAGE, contract) == [f"{call}: header {key}" for call in ("ModelConfig", "ModelInfer")]

    def test_a_name_in_the_user_agent_is_found(
        self, contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = grpc.insecure_channel

        def insecure_channel(target: str, options: Any) -> Any:
            return opened(target, options=[*options, ("grpc.primary_user_agent", "clinic/4711")])

        monkeypatch.setattr(grpc, "insecure_channel", insecure_channel)
        assert "ModelInfer: header user-agent" in identifying_parts(IMAGE, contract)


@pytest.mark.parametrize("mode", [Plain(), Mixup(references=2), Shielded()], ids=lambda mode: mode.name)
def test_a_whole_run_says_nothing_beyond_the_contract(
    mode: Mode, bundle: Bundle, contract: SegmenterContract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client from the scan on, with a token, over TCP: as a user's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    scan = replace(brain_scan()[0], name="patient-4711")
    with (
        recording(contract, "127.0.0.1:0") as (address, calls),
        ServerPool([Address.parse(address)], contract, token=Token("A" * 40)) as pool,
    ):
        pool.check()
        result = segment(scan, open_pipeline(bundle, mode, ClientKey(bytes(32)), pool))
    requests = [call.message for call in calls if call.method == "ModelInfer"]
    assert len(requests) == mode.count
    assert all(one.sent.tobytes() in sent for one, sent in zip(result.exchanges, requests, strict=True))
    assert [name for call in calls for name in beyond_contract(call, contract)] == []
    assert {key for call in calls for key, _ in call.headers} == {"user-agent", "triton-grpc-protocol-token"}


class TestAudit:
    """A8 reports what somebody adds."""

    MODE = Mixup(0.5)

    def found(self, stage: Stage) -> float:
        outcome = side_channels.run(stage.context(self.MODE, replace(BUDGET, queries=2)))
        return next(one.value for one in outcome.findings if one.figure == "identifying fields")

    def test_nothing_is_added(self, stage: Stage) -> None:
        assert self.found(stage) == 0

    def test_a_field_in_the_request(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        adding(a_parameter, monkeypatch)
        assert self.found(stage) == 1

    def test_a_header(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        with_header("patient", "x", monkeypatch)
        assert self.found(stage) == 2
