from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from mixpriv.bundle import Bundle, load_bundle, shipped_bundles
from mixpriv.errors import InputError, OutputError
from mixpriv.server import repository
from mixpriv.server.repository import config_text, repository_files, write_repository
from mixpriv.wire.contract import SegmenterContract
from tests.support.toybundle import PAIR, write_toy_bundle

IN_GIT = Path(__file__).parents[2] / "model_repository"


class TestConfig:
    def test_says_what_the_contract_says(self, bundle: Bundle) -> None:
        contract = SegmenterContract.of(bundle)
        config = text_format.Parse(config_text(bundle), model_config_pb2.ModelConfig())
        assert config.name == contract.model_name
        assert {k: v.string_value for k, v in config.parameters.items()} == dict(contract.parameters)
        assert [(t.name, tuple(t.dims)) for t in config.input] == [("mixture", (1, 64, 80, 64))]
        assert [(t.name, tuple(t.dims)) for t in config.output] == [("segmentation_mixture", (5, 64, 80, 64))]

    def test_warms_up_with_the_real_shape(self, bundle: Bundle) -> None:
        config = text_format.Parse(config_text(bundle), model_config_pb2.ModelConfig())
        assert tuple(config.model_warmup[0].inputs["mixture"].dims) == (1, *bundle.grid_shape)
        assert config.HasField("dynamic_batching")

    def test_has_a_channel_for_each_modality(self, tmp_path: Path) -> None:
        pair = write_toy_bundle(tmp_path, modalities=PAIR)
        config = text_format.Parse(config_text(pair), model_config_pb2.ModelConfig())
        assert tuple(config.input[0].dims) == (2, *pair.grid_shape)
        assert tuple(config.model_warmup[0].inputs["mixture"].dims) == (2, *pair.grid_shape)
        assert config.parameters["modalities"].string_value == '["FLAIR", "T1c"]'


class TestWriting:
    def test_makes_a_complete_repository(self, bundle: Bundle, tmp_path: Path) -> None:
        write_repository(bundle, tmp_path / "repository")
        model = tmp_path / "repository" / "toy-t1_segmenter"
        network = model / str(bundle.model_version) / "segmenter.onnx"
        assert (model / "config.pbtxt").is_file()
        assert network.read_bytes() == bundle.segmenter_path.read_bytes()
        assert not network.is_symlink()

    def test_never_writes_over_another(self, bundle: Bundle, tmp_path: Path) -> None:
        write_repository(bundle, tmp_path)
        with pytest.raises(OutputError, match="toy-t1_segmenter already exists"):
            write_repository(bundle, tmp_path)

    def test_needs_the_network(self, tmp_path: Path) -> None:
        incomplete = write_toy_bundle(tmp_path / "bundle")
        incomplete.segmenter_path.unlink()
        with pytest.raises(InputError, match=r"segmenter\.onnx is missing"):
            write_repository(incomplete, tmp_path / "repository")

    def test_to_a_place_that_cannot_be_written(self, bundle: Bundle, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("", encoding="utf-8")
        with pytest.raises(OutputError, match="cannot write the model repository: Not a directory"):
            write_repository(bundle, tmp_path / "file" / "repository")


class TestInGit:
    @pytest.fixture(autouse=True)
    def shipped(self) -> None:
        if not shipped_bundles():
            pytest.skip("no bundle ships yet")

    def test_texts_are_the_generated_ones(self) -> None:
        generated = {p: text for name in shipped_bundles() for p, text in repository_files(load_bundle(name)).items()}
        files = [path for path in IN_GIT.rglob("*") if path.is_file() and path.suffix not in (".md", ".onnx")]
        found = {str(path.relative_to(IN_GIT)): path.read_text(encoding="utf-8") for path in files}
        assert found == generated, "run: python -m mixpriv.server.repository model_repository"

    def test_networks_are_the_bundles_own(self) -> None:
        networks = {load_bundle(name).segmenter_path.resolve() for name in shipped_bundles()}
        assert {path.resolve() for path in IN_GIT.rglob("*.onnx")} == networks


def test_refreshing_drops_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for sharpness in (300, 400):
        bundle = write_toy_bundle(tmp_path / "shipped", sharpness=sharpness)
        monkeypatch.setattr(repository, "shipped_bundles", lambda: ("toy-t1",))
        monkeypatch.setattr(repository, "load_bundle", lambda name, bundle=bundle: bundle)
        repository.refresh(tmp_path / "repository")
    (version,) = (path for path in (tmp_path / "repository" / "toy-t1_segmenter").iterdir() if path.is_dir())
    assert version.name == str(bundle.model_version)
    assert (version / "segmenter.onnx").resolve() == bundle.segmenter_path
    assert not (version / "segmenter.onnx").readlink().is_absolute()
