"""Tumour scans of two modalities as training targets: read, drawn, given references, and packed into a bundle."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from mixpriv.export.example import example_mixture
from mixpriv.export.pack import pack
from mixpriv.export.targets import export_bundle

from mixpriv.bundle import load_bundle
from mixpriv.cli.research.main import main
from mixpriv.errors import InputError
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import draw_reference
from mixpriv.server.repository import config_text
from mixpriv.training.config import TrainingConfig, load_config, rival_config
from mixpriv.training.data.tumours import LabelledTumours, read_case
from mixpriv.training.examples import Examples, ReferencePool
from mixpriv.training.joint import JointModel, SegmentationLoss, losses
from mixpriv.training.specs import Rival, Tumours
from tests.support.phantom import pair_scan

BACKGROUND, NECROSIS, OEDEMA, NON_ENHANCING, ENHANCING = range(5)
BRIGHTNESS = {NECROSIS: (0.5, 0.1), OEDEMA: (1.4, 0.2), NON_ENHANCING: (1.0, 0.3), ENHANCING: (0.9, 1.6)}
"""Of the tumour's parts in both modalities, beside a z-score of the rest."""


@pytest.fixture(scope="module")
def config() -> TrainingConfig:
    """The shipped config, its networks small."""
    shipped = load_config("brats-tumour")
    small = shipped.segmenter.changed(
        filters=(8, 16, 16),
        unmixer_filters=(8, 16),
        crop=(64, 64, 64),
        references=2,
        plain_share=0.5,
    )
    return replace(shipped, segmenter=small)


@pytest.fixture(scope="module")
def tumours(config: TrainingConfig) -> Tumours:
    assert config.segmenter.data.tumours is not None
    return config.segmenter.data.tumours


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tumours: Tumours) -> Path:
    """Two phantom cases with a tumour of four layers."""
    folder = tmp_path_factory.mktemp("tumours")
    for case in range(2):
        scan, _ = pair_scan(seed=2 * case)
        index = np.stack(np.meshgrid(*map(np.arange, scan.shape), indexing="ij"), axis=-1)
        distance = np.linalg.norm((index - np.array([36, 40, 34])) * 3.0, axis=-1)
        labels = np.zeros(scan.shape, np.float32)
        voxels = scan.voxels.copy()
        for radius, label in ((30, OEDEMA), (24, NON_ENHANCING), (18, ENHANCING), (12, NECROSIS)):
            labels[distance < radius] = label
            voxels[distance < radius] = BRIGHTNESS[label]
        (folder / f"case_{case}").mkdir()
        files = (*((name, voxels[..., m]) for m, name in enumerate(tumours.images)), (tumours.labels, labels))
        for name, image in files:
            nib.save(nib.Nifti1Image(image, scan.affine), folder / f"case_{case}" / name)
    return folder


@pytest.fixture(scope="module")
def source(data: Path, config: TrainingConfig, tumours: Tumours) -> LabelledTumours:
    return LabelledTumours.read(data, config.segmenter, tumours)


class TestReading:
    def test_modalities_are_one_image(self, data: Path, tumours: Tumours) -> None:
        scan, labels = read_case(data / "case_0", tumours)
        assert scan.voxels.shape == (60, 72, 60, 2)
        assert scan.voxels.flags.f_contiguous
        assert labels.shape == scan.shape

    def test_cases_are_conformed_as_the_client_does(self, source: LabelledTumours) -> None:
        assert [scan.subject for scan in source.scans] == ["case_0", "case_1"]
        for scan in source.scans:
            assert scan.images.shape == (2, 96, 128, 112)
            assert set(np.unique(scan.labels)) == set(range(5))
            assert not scan.labels[~scan.mask].any()

    def test_another_grid_is_named(self, data: Path, tumours: Tumours, tmp_path: Path) -> None:
        for name in (*tumours.images, tumours.labels):
            (tmp_path / name).symlink_to(data / "case_0" / name)
        (tmp_path / tumours.labels).unlink()
        nib.save(nib.Nifti1Image(np.eye(30).repeat(30).reshape(30, 30, 30), np.eye(4)), tmp_path / tumours.labels)
        with pytest.raises(InputError, match=r"OTMultiClass\.nii\.gz: expected the grid of .*Flair_.*, got another"):
            read_case(tmp_path, tumours)

    def test_an_empty_folder_is_named(self, config: TrainingConfig, tumours: Tumours, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"expected a folder for each case with OTMultiClass\.nii\.gz, found none"):
            LabelledTumours.read(tmp_path, config.segmenter, tumours)


class TestReferences:
    def test_have_each_modality_and_the_tumour(self, source: LabelledTumours) -> None:
        model = source.reference_model()
        assert len(model.intensity_ranges) == 2
        references = [draw_reference(model, Keystream(bytes([seed]) * 32)) for seed in range(3)]
        for reference in references:
            assert reference.images.shape == (2, 96, 128, 112)
            assert not reference.labels[reference.mask == 0].any()
            assert 0 < (reference.labels > 0).sum() < 0.5 * reference.mask.sum()
        assert any(set(np.unique(reference.labels)) == set(range(5)) for reference in references)
        # the tumour's parts look as in the cases: oedema bright in the first, enhancing tumour in the second
        healthy, parts = len(model.atlas), list(source.tumours.layers)
        middles = [dict(zip(parts, table[healthy:].mean(1), strict=True)) for table in model.intensity_ranges]
        assert max(middles[0], key=middles[0].__getitem__) == OEDEMA
        assert max(middles[1], key=middles[1].__getitem__) == ENHANCING

    def test_another_grid_than_the_anatomy_is_refused(self, source: LabelledTumours) -> None:
        other = source.config.changed(spacing_mm=2.0)
        with pytest.raises(InputError, match=r"config: expected \[grid\] to be that of brain-t1"):
            LabelledTumours(source.scans, other, source.tumours).reference_model()


class TestTraining:
    def test_examples_have_all_modalities(self, source: LabelledTumours, config: TrainingConfig) -> None:
        spec = config.segmenter
        examples = Examples(spec, source, ReferencePool(source.reference_model(), 0, 2))
        drawn = [examples.at(step) for step in range(6)]
        assert {example.reference is None for example in drawn} == {True, False}
        model, loss = JointModel.of(spec), SegmentationLoss()
        for example in drawn:
            assert example.image.shape == (1, 2, 64, 64, 64)
            assert not torch.equal(example.image[:, 0], example.image[:, 1])
            assert all(torch.isfinite(term) for term in losses(model, loss, example, spec).values())

    def test_other_methods_are_for_one_modality(self, config: TrainingConfig) -> None:
        with pytest.raises(InputError, match="proxy: expected a config of one modality, got FLAIR, T1c"):
            rival_config(config.segmenter, Rival("warp", 4.0))


@pytest.mark.filterwarnings("ignore")
def test_weights_become_a_bundle_that_is_exported_and_served(
    source: LabelledTumours, config: TrainingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    torch.manual_seed(0)
    torch.save(JointModel.of(config.segmenter).state_dict(), run / "averaged.pt")
    (run / "log.jsonl").write_text(json.dumps({"total_steps": 1}) + "\n")
    source.reference_model().save(run / "reference.npz")
    bundle = load_bundle(pack(config, run, None, tmp_path / "bundle", "0.0.1"))
    assert bundle.modalities == ("FLAIR", "T1c")
    assert bundle.extractor_spacing_mm is None
    assert not bundle.extractor_path.exists()
    assert bundle.licence == "CC-BY-NC-SA-3.0"
    assert example_mixture(bundle).shape == (1, 2, *bundle.grid_shape)
    export_bundle(bundle, "onnx", tmp_path / "onnx")
    assert f"dims: {[2, *bundle.grid_shape]}" in config_text(bundle)
    evaluate = ["evaluate", "brats-tumour", "--bundle", str(bundle.directory), "--data", ".", "-o", "x.md"]
    assert main(evaluate) == 2
    expected = "bundle brats-tumour: evaluate: expected a bundle of one modality, got FLAIR, T1c\n"
    assert capsys.readouterr().err.endswith(expected)


def test_real_cases(config: TrainingConfig, tumours: Tumours, tmp_path: Path) -> None:
    folder = Path(os.environ.get("MIXPRIV_DATA", ""), "brats2013")
    if not folder.is_dir():
        pytest.skip("MIXPRIV_DATA names no folder with brats2013")
    case = sorted(folder.glob("brats_*"))[0]
    (tmp_path / case.name).symlink_to(case)
    (scan,) = LabelledTumours.read(tmp_path, config.segmenter, tumours).scans
    assert set(np.unique(scan.labels)) == set(range(5))
    assert 900 < scan.mask.sum() * 1.5**3 / 1000 < 1600
