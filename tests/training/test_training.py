"""Training steps, resuming, export: at toy size, the code that makes the shipped weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mixpriv.export.checkpoint import load_initial
from mixpriv.export.graphs import SegmenterGraph
from mixpriv.export.pack import pack
from mixpriv.export.parity import PARITY, joint_graphs, measure_parity
from torch import nn

from mixpriv.bundle import Alignment, load_bundle
from mixpriv.cli.research.main import main
from mixpriv.engine import load
from mixpriv.errors import InputError
from mixpriv.training.config import load_config
from mixpriv.training.data.labels import TISSUES, Head
from mixpriv.training.data.sources import SyntheticHeads
from mixpriv.training.extraction import ExtractorConfig, example
from mixpriv.training.joint import (
    Examples,
    JointConfig,
    JointModel,
    ReferencePool,
    SegmentationLoss,
    control_config,
    losses,
    with_steps,
)
from mixpriv.training.loop import Initial, Schedule, fit, steps_of
from mixpriv.training.networks import SpaceToDepthUNet, Unmixer, multiply_adds, unmixer_input
from mixpriv.training.optimiser import optimisers, orthogonal

C = len(TISSUES)
CONFIG = JointConfig(
    classes=TISSUES,
    grid_shape=(64, 64, 64),
    spacing_mm=1.5,
    alignment=Alignment((18.0, 20.0, 18.0), (31.5, 31.5, 31.5)),
    region=None,
    crop=(32, 32, 32),
    filters=(8, 16, 16),
    unmixer_filters=(8, 16),
    weight_range=(0.3, 0.7),
    plain_share=0.5,
    plain_steps=1,
    steps=4,
    learning_rate=1e-3,
    unmix_lambda=1.0,
    seed=3,
    references=2,
    reference_warp_mm=2.0,
)


@pytest.fixture(scope="module")
def source(head: Head) -> Examples:
    targets = SyntheticHeads([head], CONFIG)
    return Examples(CONFIG, targets, ReferencePool(targets.reference_model(), CONFIG.seed, CONFIG.references))


class TestExamples:
    def test_a_step_is_its_seed_and_number(self, source: Examples) -> None:
        first, again, other = source.at(5), source.at(5), source.at(6)
        assert torch.equal(first.image, again.image)
        assert not torch.equal(first.image, other.image)

    def test_plain_first_then_both_kinds(self, source: Examples) -> None:
        assert source.at(0).reference is None
        kinds = {source.at(k).reference is None for k in range(1, 12)}
        assert kinds == {True, False}

    def test_a_mixture_has_its_weight_in_range_and_exact_labels(self, source: Examples) -> None:
        mixed = next(e for e in map(source.at, range(1, 40)) if e.reference is not None)
        assert 0.3 <= float(mixed.weight) <= 0.7
        assert mixed.reference is not None
        assert mixed.image.shape == (1, 1, 32, 32, 32)
        assert mixed.target.shape == mixed.reference.shape == (1, C, 32, 32, 32)
        assert torch.equal(mixed.reference.sum(1), torch.ones(1, 32, 32, 32))

    def test_a_batch_is_of_one_kind(self, head: Head) -> None:
        config = replace(CONFIG, batch=2)
        targets = SyntheticHeads([head], config)
        batches = Examples(config, targets, ReferencePool(targets.reference_model(), 0, 2))
        for step in range(1, 6):
            one = batches.at(step)
            assert one.image.shape == (2, 1, 32, 32, 32)
            assert bool((one.weight == 1).all()) == (one.reference is None)
            terms = losses(JointModel.of(config), SegmentationLoss(), one, config)
            assert all(torch.isfinite(term) for term in terms.values())

    def test_extractor_example(self, head: Head) -> None:
        config = ExtractorConfig(2.0, (8, 16), (64, 64, 64), 1, 1e-3, 0)
        image, brain = example(config, [head], 0)
        assert image.shape == brain.shape
        assert 0.0 <= float(image.min()) <= float(image.max()) <= 1.0
        assert set(np.unique(brain.numpy())) <= {0.0, 1.0}


class TestNetworks:
    def test_unmixer_starts_from_linear_unmixing(self) -> None:
        unmixer = Unmixer(C, (8, 16))
        nn.init.zeros_(unmixer.head.weight)
        nn.init.zeros_(unmixer.head.bias)
        truth = nn.functional.one_hot(torch.randint(C, (1, 16, 16, 16)), C).permute(0, 4, 1, 2, 3).float()
        reference = nn.functional.one_hot(torch.randint(C, (1, 16, 16, 16)), C).permute(0, 4, 1, 2, 3).float()
        weight = torch.full((1, 1, 16, 16, 16), 0.4)
        mixed = 0.4 * truth + 0.6 * reference
        known = unmixer_input(mixed, reference, weight)
        assert torch.allclose(known[:, :C], truth, atol=1e-5)
        answer = unmixer(known).argmax(1)
        assert torch.equal(answer, truth.argmax(1))

    def test_an_unmixer_without_an_answer_is_given_zeros(self) -> None:
        torch.manual_seed(0)
        unmixer, image = Unmixer(C, (8, 16), images=1), torch.rand(1, 1, 16, 16, 16)
        nothing = torch.zeros(1, 2 * C + 1, 16, 16, 16)
        torch.testing.assert_close(unmixer(nothing, image), unmixer(None, image))
        assert not torch.equal(unmixer(nothing, image), unmixer(nothing, image.flip(2)))

    def test_a_missing_weight_is_named(self) -> None:
        weights = {k: v for k, v in Unmixer(C, (8,)).state_dict().items() if not k.startswith("stem.")}
        with pytest.raises(InputError, match=r"initial weights: expected stem\.weight of shape"):
            Initial(weights, 7).load_into(Unmixer(C, (8,)))

    def test_multiply_adds_of_one_convolution(self) -> None:
        assert multiply_adds(nn.Conv3d(2, 3, 3, padding=1), torch.zeros(1, 2, 4, 4, 4)) == 27 * 2 * 3 * 64
        assert multiply_adds(nn.ConvTranspose3d(2, 3, 2, 2), torch.zeros(1, 2, 4, 4, 4)) == 2 * 3 * 512

    def test_shipped_unmixer_costs_at_most_a_tenth_of_the_segmenter(self) -> None:
        spec = load_config("brain-t1").segmenter
        model = JointModel.of(spec)
        image = torch.zeros(1, 1, 32, 32, 32)
        unmixer = multiply_adds(model.unmixer, torch.zeros(1, 2 * C + 1, 32, 32, 32), image)
        assert unmixer <= 0.1 * multiply_adds(model.segmenter, image)

    def test_unmixing_trains_the_segmenter(self, source: Examples) -> None:
        model = JointModel.of(CONFIG)
        mixed = next(e for e in map(source.at, range(1, 40)) if e.reference is not None)
        losses(model, SegmentationLoss(), mixed, CONFIG)["unmixed"].backward()
        gradients = [p.grad for p in model.segmenter.parameters()]
        assert all(g is not None for g in gradients)
        assert any(float(g.abs().max()) > 0 for g in gradients if g is not None)


class TestShielded:
    CONFIG = replace(
        CONFIG,
        plain_steps=0,
        plain_share=0.0,
        shielded_share=1.0,
        shielded_range=(0.2, 0.3),
        shielded_warp_mm=3.0,
        unmixer_sees="target",
    )

    def test_what_was_bent_is_straight_again(self, source: Examples) -> None:
        example = Examples(self.CONFIG, source.targets, source.pool).at(3)
        assert 0.2 <= float(example.weight) <= 0.3
        assert example.target_image is not None
        assert example.reference_image is not None
        assert example.back is not None
        weight = example.weight.view(-1, 1, 1, 1, 1)
        mixture = weight * example.target_image + (1 - weight) * example.reference_image
        back = example.straight(torch.cat([1 - example.image, example.image], 1))
        assert torch.allclose(back.sum(1), torch.ones_like(back[:, 0]), atol=1e-5)
        inner = (..., *(slice(8, -8),) * 3)  # what came from beyond the crop is lost
        apart = [float((image - mixture)[inner].abs().mean()) for image in (back[:, 1:], example.image)]
        assert apart[0] < 0.3 * apart[1]

    def test_it_trains_both_and_d_looks_at_the_target(self, source: Examples) -> None:
        model = JointModel.of(self.CONFIG)
        example = Examples(self.CONFIG, source.targets, source.pool).at(3)
        sum(losses(model, SegmentationLoss(), example, self.CONFIG).values(), torch.zeros(())).backward()
        assert model.unmixer.look is not None
        for parameter in (model.unmixer.look.weight, next(model.segmenter.parameters())):
            assert parameter.grad is not None
            assert float(parameter.grad.abs().max()) > 0


class TestOptimisers:
    @pytest.mark.parametrize("shape", [(16, 400), (400, 16), (32, 32)])
    def test_the_update_has_singular_values_near_one(self, shape: tuple[int, int]) -> None:
        torch.manual_seed(0)
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3

    def test_each_parameter_is_in_one_optimiser(self) -> None:
        model = JointModel(SpaceToDepthUNet(1, C, (16, 32, 32)), Unmixer(C, (16, 32)))
        both = optimisers(model, 1e-3)
        held = [p for optimiser in both for group in optimiser.param_groups for p in group["params"]]
        assert len(held) == len(set(map(id, held))) == len(list(model.parameters()))
        assert all(p.ndim > 1 for group in both[0].param_groups for p in group["params"])

    def test_last_layers_are_left_to_the_faster_one(self) -> None:
        model = JointModel(SpaceToDepthUNet(1, C, (16, 32, 32)), Unmixer(C, (16, 32)))
        muon, _ = optimisers(model, 1e-3)
        held = {id(p) for group in muon.param_groups for p in group["params"]}
        last = [model.unmixer.head.weight, model.segmenter.unet.output_block.conv.conv.weight]
        assert not held & set(map(id, last))
        assert id(model.segmenter.unet.input_block.conv2.conv.weight) in held

    def test_both_take_the_same_rate(self) -> None:
        torch.manual_seed(0)
        network = nn.Conv3d(16, 16, 3)
        before = network.weight.detach().clone()
        network(torch.randn(1, 16, 8, 8, 8)).square().sum().backward()
        muon, adamw = optimisers(network, 1e-2)
        muon.step()
        adamw.step()
        change = (network.weight.detach() - before).square().mean().sqrt()
        assert float(change) == pytest.approx(0.2 * 1e-2, rel=0.3)


class TestFit:
    def test_the_loss_falls(self, source: Examples, tmp_path: Path) -> None:
        torch.manual_seed(0)
        model, loss = JointModel.of(CONFIG), SegmentationLoss()
        one = source.at(0)
        before = losses(model, loss, one, CONFIG)["plain"].item()
        fit(model, lambda step: losses(model, loss, one, CONFIG), Schedule(12, 3e-3), tmp_path)
        assert losses(model, loss, one, CONFIG)["plain"].item() < before
        assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["step"] == 12

    def test_a_resumed_run_ends_as_an_unbroken_one(self, source: Examples, tmp_path: Path) -> None:
        schedule, loss = Schedule(4, 1e-3), SegmentationLoss()

        def run(folder: Path, stop_at: int | None) -> dict[str, torch.Tensor]:
            torch.manual_seed(1)
            model = JointModel.of(CONFIG)

            def losses_at(step: int) -> dict[str, torch.Tensor]:
                return losses(model, loss, source.at(step), CONFIG)

            if stop_at is not None:
                # the same learning rates, but the run ends early
                early = type("Early", (Schedule,), {"rate_at": lambda self, step: schedule.rate_at(step)})
                fit(model, losses_at, early(stop_at, 1e-3), folder)
            fit(model, losses_at, schedule, folder)
            return model.state_dict()

        whole, resumed = run(tmp_path / "whole", None), run(tmp_path / "resumed", 2)
        for name, value in whole.items():
            torch.testing.assert_close(resumed[name], value, rtol=1e-4, atol=1e-5)

    def test_a_resumed_run_counts_the_steps_before_it_once(self, source: Examples, tmp_path: Path) -> None:
        model, loss = JointModel.of(CONFIG), SegmentationLoss()
        weights = {name: value.clone() for name, value in model.named_parameters()}

        def losses_at(step: int) -> dict[str, torch.Tensor]:
            return losses(model, loss, source.at(step), CONFIG)

        fit(model, losses_at, Schedule(1, 1e-3), tmp_path, Initial(weights, 10))
        fit(model, losses_at, Schedule(2, 1e-3), tmp_path, Initial(weights, 500))
        assert steps_of(tmp_path) == 12

    def test_a_control_of_more_steps_still_mixes_nothing(self) -> None:
        control = with_steps(control_config(CONFIG, 2, 1e-3), 9)
        assert (control.steps, control.plain_steps) == (9, 9)
        assert with_steps(CONFIG, 9).plain_steps == CONFIG.plain_steps
        with pytest.raises(InputError, match="steps: expected at least 1, got 0"):
            with_steps(CONFIG, 0)


class TestInitial:
    def test_a_bundle_gives_its_weights_back(self) -> None:
        bundle = load_bundle("brain-t1")
        spec = load_config("brain-t1")
        model = JointModel.of(spec.segmenter)
        initial = load_initial(bundle.directory, "segmenter")
        initial.load_into(model)
        assert initial.steps == bundle.extra["trained"]["steps"]
        image = torch.rand(1, 1, 32, 32, 32).half()
        with torch.no_grad():
            ours = SegmenterGraph(model.segmenter).eval()(image).numpy()
        shipped = load(bundle.segmenter_path, precision="f32")(mixture=image.numpy())["segmentation_mixture"]
        assert np.abs(ours.astype(int) - shipped).max() <= 1
        brain = SpaceToDepthUNet(1, 1, spec.extractor.filters)
        load_initial(bundle.directory, "extractor").load_into(brain)
        load_initial(bundle.directory, "control").load_into(JointModel.of(spec.control))

    def test_a_bundle_of_schema_1_has_its_sharpness_in_the_graph(self, tmp_path: Path) -> None:
        folder = shutil.copytree(load_bundle("hippocampus").directory, tmp_path / "bundle")
        record = json.loads((folder / "bundle.json").read_text())
        sharpness = record.pop("unmixer_sharpness")
        (folder / "bundle.json").write_text(json.dumps(record))
        model = JointModel.of(load_config("hippocampus").segmenter)
        with pytest.raises(InputError, match=r"initial weights: expected unmixer\.sharpness"):
            load_initial(folder, "segmenter").load_into(model)
        unmixer = onnx.load(folder / "unmixer.onnx")
        unmixer.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(sharpness), "network.sharpness"))
        onnx.save(unmixer, folder / "unmixer.onnx")
        load_initial(folder, "segmenter").load_into(model)
        assert float(model.unmixer.sharpness.detach()) == sharpness

    def test_other_weights_are_refused_by_name_and_shape(self) -> None:
        initial = load_initial(load_bundle("brain-t1").directory, "segmenter")
        with pytest.raises(InputError, match=r"initial weights: expected segmenter\..* of shape .*, got "):
            initial.load_into(JointModel.of(CONFIG))

    def test_a_folder_that_is_neither_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"expected a run with averaged\.pt, or a bundle with the segmenter"):
            load_initial(tmp_path, "segmenter")

    @pytest.mark.filterwarnings("ignore")
    def test_a_run_and_a_bundle_make_a_bundle(self, tmp_path: Path) -> None:
        config = load_config("brain-t1")
        small = replace(config, segmenter=replace(config.segmenter, filters=(8, 16, 16), crop=(32, 32, 32)))
        shipped = load_bundle("brain-t1")
        with pytest.raises(InputError, match="config brain-t1: expected training data, to measure"):
            pack(small, shipped.directory, shipped.directory, tmp_path / "bundle", "9.9.9")
        said = {name: value for name, value in config.raw["bundle"].items() if name != "shielded"}
        small = replace(small, raw={**config.raw, "bundle": said})
        run = tmp_path / "run"
        run.mkdir()
        torch.manual_seed(0)
        torch.save(JointModel.of(small.segmenter).state_dict(), run / "averaged.pt")
        (run / "log.jsonl").write_text(json.dumps({"total_steps": 7}) + "\n")
        (run / "reference.npz").write_bytes(shipped.reference_path.read_bytes())
        bundle = load_bundle(pack(small, run, shipped.directory, tmp_path / "bundle", "9.9.9"))
        assert bundle.extra["trained"]["steps"] == 7
        assert bundle.extra["trained"]["extractor_steps"] == shipped.extra["trained"]["extractor_steps"]
        # what a client sends must not change with a new segmenter
        assert bundle.extractor_path.read_bytes() == shipped.extractor_path.read_bytes()
        parity = bundle.extra[PARITY]
        assert parity.keys() == {"segmenter", "unmixer", "extractor"}
        for comparisons in parity.values():
            assert comparisons.keys() == {"openvino_f32", "onnxruntime_f32"}
            assert all(comparison["within_one_level"] >= 0.999 for comparison in comparisons.values())
        changed = onnx.load(bundle.segmenter_path)
        for node in changed.graph.node:
            if node.op_type == "LeakyRelu":
                node.attribute[0].f = 0.3
        onnx.save(changed, bundle.segmenter_path)
        model = JointModel.of(small.segmenter)
        with pytest.raises(InputError, match=r"segmenter\.onnx, openvino_f32: its answer differs"):
            measure_parity(small.segmenter, joint_graphs(model), bundle.directory)

    def test_heads_need_an_extractor_and_nothing_is_written_without(self, tmp_path: Path) -> None:
        config, shipped = load_config("brain-t1"), load_bundle("brain-t1")
        with pytest.raises(InputError, match="config brain-t1: expected an extractor run"):
            pack(config, shipped.directory, None, tmp_path / "bundle", "9.9.9")
        assert not (tmp_path / "bundle").exists()


class TestConfig:
    def test_the_shipped_config_is_whole(self) -> None:
        config = load_config("brain-t1")
        assert config.segmenter.grid_shape == (96, 128, 112)
        assert config.control.plain_steps == config.control.steps

    def test_an_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(InputError, match=r"config 'nope' not found: expected a TOML file or one of .*brain-t1"):
            load_config("nope")

    def test_an_unknown_field_lists_the_expected(self, tmp_path: Path) -> None:
        from mixpriv.training.config import SHIPPED

        text = (SHIPPED / "brain-t1.toml").read_text()
        (tmp_path / "c.toml").write_text(text.replace("unmix_lambda", "lambda_unmix"))
        with pytest.raises(InputError, match=r"c\.toml: expected exactly .*unmix_lambda"):
            load_config(str(tmp_path / "c.toml"))

    def test_command_line_errors_are_one_line(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert main(["train", "nope", "--data", str(tmp_path), "-o", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("mixpriv: error: config 'nope' not found")
        assert error.count("\n") == 1

    def test_the_control_sees_what_the_segmenter_sees(self) -> None:
        config = load_config("brain-t1")
        assert config.control.crop == config.segmenter.crop
        assert config.control.augmentation == config.segmenter.augmentation
