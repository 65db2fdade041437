from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mixpriv.wire.contract import SegmenterContract, TensorSpec, printable
from tests.support.toybundle import write_toy_bundle


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> SegmenterContract:
    return SegmenterContract.of(write_toy_bundle(tmp_path_factory.mktemp("toy")))


def tensors(contract: SegmenterContract) -> tuple[TensorSpec, ...]:
    return contract.mixture, contract.segmentation_mixture


class TestContract:
    def test_has_the_documented_tensors(self, contract: SegmenterContract) -> None:
        assert contract.model_name == "toy-t1_segmenter"
        assert contract.mixture == TensorSpec("mixture", "FP16", (1, 64, 80, 64))
        assert contract.segmentation_mixture == TensorSpec("segmentation_mixture", "UINT8", (5, 64, 80, 64))

    def test_version_follows_the_network(self, tmp_path: Path, contract: SegmenterContract) -> None:
        other = SegmenterContract.of(write_toy_bundle(tmp_path, sharpness=300))
        assert other.model_version != contract.model_version


class TestDifference:
    def test_none_from_itself(self, contract: SegmenterContract) -> None:
        assert contract.difference(contract.parameters, tensors(contract)) is None

    def test_of_another_network_names_both(self, contract: SegmenterContract) -> None:
        other = {"bundle": "other", "bundle_version": "9.9", "fingerprint": "f" * 64}
        said = contract.difference(other, tensors(contract))
        assert said is not None
        assert "other 9.9 (fingerprint fffffffffff" in said
        assert f"needs toy-t1 0.1.0 (fingerprint {contract.parameters['fingerprint'][:11]}" in said

    def test_of_a_server_that_says_nothing(self, contract: SegmenterContract) -> None:
        assert "a network without a fingerprint" in (contract.difference({}, tensors(contract)) or "")

    @pytest.mark.parametrize("name", ["wire_contract", "bundle_version", "classes", "spacing_mm"])
    def test_of_every_parameter(self, contract: SegmenterContract, name: str) -> None:
        said = contract.difference({**contract.parameters, name: "x"}, tensors(contract))
        assert said is not None
        assert said.startswith(f"its {name} is x, this client needs")

    def test_of_a_server_that_takes_any_size(self, contract: SegmenterContract) -> None:
        before = {**contract.parameters, "wire_contract": "1"}
        loose = tuple(replace(spec, shape=(spec.shape[0], -1, -1, -1)) for spec in tensors(contract))
        assert contract.difference(before, loose) == "its wire_contract is 1, this client needs 2"
        assert "its tensors are mixture FP16 [1, -1" in (contract.difference(contract.parameters, loose) or "")

    def test_of_a_tensor(self, contract: SegmenterContract) -> None:
        wide = replace(contract.mixture, dtype="FP32")
        said = contract.difference(contract.parameters, (wide, contract.segmentation_mixture))
        assert "mixture FP32 [1, 64, 80, 64]" in (said or "")


def test_what_a_server_says_stays_one_short_printable_line() -> None:
    assert printable("a\x1b[31m\nb" + "c" * 50, 12) == "a [31m bccc…"
