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

from mixpriv.bundle import Alignment, load_bundle, shipped_bundles
from mixpriv.cli.research.main import main
from mixpriv.engine import load
from mixpriv.errors import InputError
from mixpriv.training.config import JointConfig, control_config, load_config, parse_config, with_steps
from mixpriv.training.data.labels import STRUCTURE_ANATOMY, STRUCTURES, TISSUES, Head
from mixpriv.training.data.sources import SyntheticHeads
from mixpriv.training.examples import Ahead, Examples, ReferencePool
from mixpriv.training.extraction import example
from mixpriv.training.joint import JointModel, SegmentationLoss, losses
from mixpriv.training.loop import Initial, fit, steps_of
from mixpriv.training.networks import SpaceToDepthUNet, Unmixer, multiply_adds, unmixer_input
from mixpriv.training.optimiser import optimisers, orthogonal
from mixpriv.training.specs import ExtractorConfig, Schedule

C = len(TISSUES)
CONFIG = JointConfig.of(
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
    return Examples(CONFIG, targets, ReferencePool(targets.reference_model(), CONFIG.seed, CONFIG.data.references))


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
        config = CONFIG.changed(batch=2)
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
        for step in range(4):
            image, brain = example(config, [head], [], step)
            assert image.shape == brain.shape
            assert 0.0 <= float(image.min()) <= float(image.max()) <= 1.0
            assert set(np.unique(brain.numpy())) <= {0.0, 1.0}


class TestLoss:
    WEIGHTS = (0.5, 4.0, 1.0)

    def test_weights_do_not_bias_what_the_network_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        truth = torch.tensor([0.7, 0.2, 0.1]).view(1, 3, 1, 1, 1).expand(1, 3, 4, 4, 4)
        logits = truth.log().clone().requires_grad_()
        loss = SegmentationLoss(self.WEIGHTS)
        monkeypatch.setattr(loss.dice, "forward", lambda _logits, _target: torch.zeros(()))
        loss(logits, truth).backward()
        assert logits.grad is not None
        assert float(logits.grad.abs().max()) < 1e-6

    def test_errors_in_a_heavy_class_cost_more(self) -> None:
        truth = nn.functional.one_hot(torch.arange(3)).T.float().reshape(1, 3, 3, 1, 1)
        missed = [8 * truth - 16 * truth * (torch.arange(3) == k).view(1, 3, 1, 1, 1) for k in (1, 2)]
        loss = SegmentationLoss(self.WEIGHTS)
        assert loss(missed[0], truth) > loss(missed[1], truth)

    def test_one_weight_for_each_class(self) -> None:
        with pytest.raises(InputError, match="class_weights: expected 6, got 2"):
            CONFIG.changed(class_weights=(1.0, 2.0))


class TestAhead:
    def test_every_step_has_its_own_example(self) -> None:
        with Ahead(lambda step: step) as examples:
            assert [examples(step) for step in (3, 4, 5, 9, 10)] == [3, 4, 5, 9, 10]

    def test_a_fault_in_making_one_is_raised(self) -> None:
        def make(step: int) -> int:
            if step == 1:
                raise InputError("no data")
            return step

        with Ahead(make) as examples:
            assert examples(0) == 0
            with pytest.raises(InputError, match="no data"):
                examples(1)


class TestSchedule:
    def test_the_rate_stays_until_the_decay(self) -> None:
        schedule = Schedule(1000, 0.1, 200)
        assert [schedule.rate_at(step) for step in (100, 500, 800)] == [0.1] * 3
        assert 0.1 > schedule.rate_at(850) > schedule.rate_at(950) > schedule.rate_at(999) > 0.002

    def test_without_one_it_falls_from_the_start(self) -> None:
        rates = [Schedule(1000, 0.1).rate_at(step) for step in range(100, 1000, 100)]
        assert rates == sorted(rates, reverse=True)
        assert len(set(rates)) == len(rates)

    def test_a_short_run_is_all_decay(self) -> None:
        assert Schedule(150, 0.1, 200).rate_at(120) == Schedule(150, 0.1).rate_at(120)


def test_structures_are_trained_with_shares_and_weights(head: Head) -> None:
    spec = load_config("brain-t1-structures")
    joint = spec.segmenter
    assert joint.task.classes == STRUCTURES
    assert len(joint.losses.class_weights) == len(STRUCTURES)
    assert [STRUCTURES[label] for label in set(range(1, len(STRUCTURES))) - set(spec.counted)] == [
        "extraventricular CSF"
    ]
    small = CONFIG.changed(classes=STRUCTURES, class_weights=joint.losses.class_weights, unmixer_sees="labels",
        augmentation=joint.data.augmentation,
    )  # fmt: skip
    targets = SyntheticHeads([replace(head, anatomy=STRUCTURE_ANATOMY)], small)
    source = Examples(small, targets, ReferencePool(targets.reference_model(), 0, 2))
    one = next(e for e in map(source.at, range(1, 40)) if e.reference is not None)
    assert one.target.shape == (1, len(STRUCTURES), 32, 32, 32)
    terms = losses(JointModel.of(small), SegmentationLoss(small.losses.class_weights), one, small)
    assert all(torch.isfinite(term) for term in terms.values())


def test_the_structures_unmixer_sees_labels_alone_and_is_small() -> None:
    spec = load_config("brain-t1-structures").segmenter
    model, classes = JointModel.of(spec), len(spec.task.classes)
    assert model.unmixer.look is None
    assert model.segmenter is not None
    grid = (1, 1, 32, 32, 32)
    known = torch.zeros(1, 2 * classes + 1, *grid[2:])
    assert multiply_adds(model.unmixer, known) < 0.025 * multiply_adds(model.segmenter, torch.zeros(grid))


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
    CONFIG = CONFIG.changed(
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
        back = example.unwarped(torch.cat([1 - example.image, example.image], 1))
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
        assert (control.schedule.steps, control.mixing.plain_steps) == (9, 9)
        assert with_steps(CONFIG, 9).mixing.plain_steps == CONFIG.mixing.plain_steps
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
        small = replace(config, segmenter=config.segmenter.changed(filters=(8, 16, 16), crop=(32, 32, 32)))
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
        assert config.segmenter.task.grid_shape == (96, 128, 112)
        assert config.control.mixing.plain_steps == config.control.schedule.steps

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
        assert config.control.data.crop == config.segmenter.data.crop
        assert config.control.data.augmentation == config.segmenter.data.augmentation

    @pytest.mark.parametrize("name", shipped_bundles())
    def test_what_a_shipped_bundle_recorded_is_still_read(self, name: str) -> None:
        recorded = load_bundle(name).extra["config"]
        config = parse_config(recorded)
        assert config.segmenter.task.classes == tuple(recorded["bundle"]["classes"])
        assert config.segmenter.mixing.weight_range == tuple(recorded["segmenter"]["weight_range"])
        assert config.segmenter.schedule.steps == recorded["segmenter"]["steps"]


class TestJointConfig:
    def test_fields_go_to_their_parts(self) -> None:
        changed = CONFIG.changed(batch=3, frozen=True, weight_range=(0.1, 0.2))
        assert (changed.data.batch, changed.frozen, changed.mixing.weight_range) == (3, True, (0.1, 0.2))
        assert changed.changed(batch=1, frozen=False, weight_range=(0.3, 0.7)) == CONFIG

    @pytest.mark.parametrize("field", ["steps_", "task_", "proxy"])
    def test_an_unknown_field_is_refused(self, field: str) -> None:
        with pytest.raises(TypeError, match=field):
            CONFIG.changed(**{field: 1})
