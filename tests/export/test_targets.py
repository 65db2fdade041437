"""A bundle's segmenter for other runtimes, and the graph in mixed precision: the answers, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from mixpriv.export import targets
from mixpriv.export.comparison import Comparison
from mixpriv.export.example import example_mixture
from mixpriv.export.runtimes import in_onnxruntime
from mixpriv.export.targets import export_bundle

from mixpriv import engine
from mixpriv.bundle import Bundle, load_bundle
from mixpriv.cli.research.main import main
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.engine.precision import mixed_precision
from mixpriv.errors import InputError, OutputError


def window(mixture: np.ndarray, size: tuple[int, int, int] = (32, 48, 32)) -> np.ndarray:
    """The middle of a mixture, to be done in a second or two."""
    space = mixture.shape[2:]
    cut = tuple(slice((n - min(n, m)) // 2, (n - min(n, m)) // 2 + min(n, m)) for n, m in zip(space, size, strict=True))
    return np.ascontiguousarray(mixture[(slice(None), slice(None), *cut)])


class TestComparison:
    def test_is_a_value(self) -> None:
        ours, theirs = np.zeros(2000, np.uint8), np.zeros(2000, np.uint8)
        ours[:3] = 1, 2, 200
        comparison = Comparison.of(ours, theirs, 1.0)
        assert (comparison.largest, comparison.mean, comparison.within_one_level) == (200.0, 203 / 2000, 0.999)
        assert comparison.quantile_999 == pytest.approx(1.001)

    def test_does_not_wrap_around(self) -> None:
        assert Comparison.of(np.array([0], np.uint8), np.array([255], np.uint8), 1.0).largest == 255

    def test_needs_arrays_of_one_shape(self) -> None:
        with pytest.raises(ValueError, match=r"expected two arrays of one shape, got \(2,\) and \(3,\)"):
            Comparison.of(np.zeros(2), np.zeros(3), 1.0)


class TestExports:
    @pytest.mark.parametrize(
        ("target", "names"),
        [("onnx", {"segmenter.onnx", "segmenter.mixed.onnx"}), ("openvino", {"segmenter.xml", "segmenter.bin"})],
    )
    def test_say_what_was_written_and_how_it_agrees(
        self, bundle: Bundle, empty: Path, target: str, names: set[str]
    ) -> None:
        export_bundle(bundle, target, empty)
        record = json.loads((empty / "export.json").read_text())
        assert (record["target"], record["fingerprint"]) == (target, bundle.fingerprint)
        assert record["files_sha256"].keys() == names == {path.name for path in empty.iterdir()} - {"export.json"}
        for name, digest in record["files_sha256"].items():
            assert hashlib.sha256((empty / name).read_bytes()).hexdigest() == digest
        assert all(comparison["within_one_level"] > 0.99 for comparison in record["parity"].values())

    def test_run_where_they_are_meant_to(self, bundle: Bundle, empty: Path) -> None:
        export_bundle(bundle, "openvino", empty)
        x = example_mixture(bundle, 1)
        answer = engine.load(empty / "segmenter.xml")(mixture=x)["segmentation_mixture"]
        np.testing.assert_array_equal(answer, InProcessSegmenter(bundle.segmenter_path).segment(x))

    def test_are_refused_if_the_answer_is_another(
        self, bundle: Bundle, empty: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(targets, "in_onnxruntime", lambda model: lambda x: in_onnxruntime(model)(x) // 2)
        with pytest.raises(InputError, match=r"segmenter\.onnx: its answer differs from the network's: Comparison\(la"):
            export_bundle(bundle, "onnx", empty)
        assert list(empty.parent.iterdir()) == []

    def test_never_write_over_another(self, bundle: Bundle, empty: Path) -> None:
        empty.mkdir()
        with pytest.raises(OutputError, match="already exists"):
            export_bundle(bundle, "onnx", empty)

    def test_to_a_place_that_cannot_be_written(self, bundle: Bundle, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot be written: Not a directory"):
            export_bundle(bundle, "onnx", tmp_path / "file" / "out")

    def test_by_the_command(self, bundle: Bundle, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command = ["export", str(bundle.directory), "--target", "openvino", "-o", str(empty)]
        assert main(command) == 0
        assert capsys.readouterr().out == f"{empty}\n"
        assert main(command) == 5
        assert main(["export", "absent", "--target", "onnx", "-o", str(empty)]) == 2


class TestMixedPrecision:
    @pytest.mark.parametrize("name", ["brain-t1", "hippocampus"])
    def test_answers_nearly_as_float32_on_synthetic_brains(self, name: str) -> None:
        bundle = load_bundle(name)
        model, x = onnx.load(bundle.segmenter_path), window(example_mixture(bundle))
        plain, mixed = in_onnxruntime(model)(x), in_onnxruntime(mixed_precision(model))(x)
        expected = InProcessSegmenter(bundle.segmenter_path, precision="f32").segment(x)
        assert Comparison.of(plain, expected, 1.0).within_one_level >= 0.999
        rounded = Comparison.of(mixed, expected, 1.0)
        assert rounded.within_one_level >= 0.99
        assert rounded.mean > Comparison.of(plain, expected, 1.0).mean  # it does round

    def test_is_where_it_must_be_and_nowhere_else(self) -> None:
        graph = mixed_precision(onnx.load(load_bundle("hippocampus").segmenter_path)).graph
        types = element_types(graph)
        for node in graph.node:
            if node.op_type in ("Conv", "ConvTranspose", "LeakyRelu"):
                assert {types[name] for name in (*node.input, *node.output)} == {onnx.TensorProto.FLOAT16}, node.name
            if node.op_type in ("InstanceNormalization", "Softmax", "Round"):
                assert {types[name] for name in (*node.input, *node.output)} == {onnx.TensorProto.FLOAT}, node.name
        casts = sum(node.op_type == "Cast" and types[node.output[0]] != onnx.TensorProto.INT64 for node in graph.node)
        norms = sum(node.op_type == "InstanceNormalization" for node in graph.node)
        assert casts == 2 * norms + 2  # around each normalisation, before the soft-max, and the answer's

    def test_leaves_the_model_and_its_outside_as_they_were(self, bundle: Bundle) -> None:
        model = onnx.load(bundle.segmenter_path)
        before = model.SerializeToString()
        mixed = mixed_precision(model)
        assert model.SerializeToString() == before
        assert (mixed.graph.input[0], mixed.graph.output[0]) == (model.graph.input[0], model.graph.output[0])


def element_types(graph: onnx.GraphProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph)).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    return {v.name: v.type.tensor_type.elem_type for v in values} | {t.name: t.data_type for t in graph.initializer}
