"""Scans of several modalities: one file, one grid, one mask and one weight; each its own intensities."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mixpriv.bundle import Bundle, load_bundle, require_one_modality
from mixpriv.client.bank import Bank
from mixpriv.client.figure import draw_picture
from mixpriv.client.pipeline import Pipeline, open_pipeline
from mixpriv.client.segment import segment
from mixpriv.client.wire_record import save_wire
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.crop import conform_crop
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from mixpriv.imaging.preprocess.stripped import stripped_brain
from mixpriv.imaging.resample import Conformed
from mixpriv.imaging.volume import Volume, load_volume
from mixpriv.key import content_digest, load_or_create_key
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.mixing import mix
from mixpriv.protection.modes import Mixup, Mode, Plain, Shielded
from mixpriv.protection.reference import Reference, ReferenceModel, draw_labels, draw_reference
from mixpriv.protection.warp import Warp
from mixpriv.timing import Timings
from tests.client.test_segment import Recording, dice
from tests.support.phantom import brain_scan, pair_scan, write_reference_model
from tests.support.pipelines import using
from tests.support.toybundle import PAIR, write_toy_bundle, write_toy_crop_bundle


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = write_toy_bundle(tmp_path_factory.mktemp("pair"), name="toy-pair", modalities=PAIR)
    write_reference_model(bundle)
    return bundle


@pytest.fixture
def pipeline(pair: Bundle, home: Path) -> Pipeline:
    return open_pipeline(pair, Mixup(), load_or_create_key(), InProcessSegmenter(pair.segmenter_path))


def with_modality(scan: Volume, index: int, voxels: NDArray[np.float32] | float) -> Volume:
    changed = scan.voxels.copy(order="F")
    changed[..., index] = voxels
    return replace(scan, voxels=changed)


def written(path: Path, shape: tuple[int, ...]) -> Path:
    voxels = np.random.default_rng(0).random(shape, np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([3.0, 3.0, 3.0, 1.0])), path)
    return path


class TestFile:
    def test_the_last_axis_holds_them(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.nii.gz", (12, 14, 16, 2))
        scan = load_volume(path, PAIR)
        assert scan.voxels.shape == (12, 14, 16, 2)
        assert scan.shape == (12, 14, 16)
        for index, modality in enumerate(scan.modalities):
            assert modality.voxels.flags.f_contiguous
            assert np.shares_memory(modality.voxels, scan.voxels)
            np.testing.assert_array_equal(modality.voxels, np.asarray(nib.load(path).dataobj)[..., index])

    def test_a_3_d_scan_is_its_only_one(self) -> None:
        scan, _ = brain_scan()
        assert scan.modalities == (scan,)

    @pytest.mark.parametrize("shape", [(12, 14, 16), (12, 14, 16, 1), (12, 14, 16, 3), (12, 14, 16, 2, 2)])
    def test_another_number_is_refused(self, shape: tuple[int, ...], tmp_path: Path) -> None:
        path = written(tmp_path / "a.nii.gz", shape)
        with pytest.raises(
            InputError, match=r"a\.nii\.gz: expected a 4-D image .* 2 modalities \(FLAIR, T1c\), got sha"
        ):
            load_volume(path, PAIR)

    def test_several_are_refused_where_one_is_expected(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.nii.gz", (12, 14, 16, 2))
        with pytest.raises(InputError, match=r"a\.nii\.gz: expected a 3-D image, got shape \(12, 14, 16, 2\)"):
            load_volume(path, ("T1w",))

    def test_their_order_is_content(self) -> None:
        scan, _ = pair_scan()
        swapped = replace(scan, voxels=np.asfortranarray(scan.voxels[..., ::-1]))
        assert content_digest(scan.voxels, scan.affine) != content_digest(swapped.voxels, scan.affine)


class TestStripped:
    def test_the_brain_is_what_is_not_background(self, pair: Bundle) -> None:
        scan, labels = pair_scan()
        brain = stripped_brain(scan, pair)
        assert brain.volume_ml == pytest.approx((labels > 0).sum() * scan.voxel_ml, rel=0.03)

    def test_one_modality_is_enough(self, pair: Bundle) -> None:
        scan, labels = pair_scan()
        lowest = float(scan.voxels[..., 1].min())
        half = np.where(np.arange(60)[:, None, None] < 30, lowest, scan.voxels[..., 1])
        brain = stripped_brain(with_modality(scan, 1, half), pair)
        assert brain.volume_ml == pytest.approx((labels > 0).sum() * scan.voxel_ml, rel=0.03)

    def test_a_head_with_its_skull_is_refused(self, pair: Bundle) -> None:
        scan, _ = pair_scan()
        whole = replace(scan, affine=np.diag([4.0, 4.0, 4.0, 1.0]))  # what is not air has more volume than any brain
        with pytest.raises(InputError, match=r"skull-stripped brain of 300 to 2500 ml, got 37.. ml that are not"):
            stripped_brain(whole, pair)

    def test_noisy_air_is_refused(self, pair: Bundle) -> None:
        scan, _ = pair_scan()
        noisy = with_modality(scan, 1, np.random.default_rng(0).normal(size=scan.shape).astype(np.float32))
        with pytest.raises(
            InputError, match="phantom, modality 2: expected a skull-stripped scan, got one without a uni"
        ):
            stripped_brain(noisy, pair)


class TestConform:
    def test_each_is_what_it_would_be_alone(self, pair: Bundle) -> None:
        scan, _ = pair_scan()
        preprocess = load_preprocessor(pair)
        target = preprocess(scan, Timings())
        alone = [preprocess(modality, Timings()) for modality in scan.modalities]
        assert target.intensity_ranges == tuple(other.intensity_ranges[0] for other in alone)
        for image, other in zip(target.images, alone, strict=True):
            assert image.tobytes() == other.image.tobytes()
            assert target.mask.tobytes() == other.mask.tobytes()

    def test_one_without_contrast_is_named(self, pair: Bundle) -> None:
        scan, labels = pair_scan()
        flat = with_modality(scan, 1, np.where(labels > 0, np.float32(1), np.float32(0)))
        with pytest.raises(InputError, match="phantom, modality 2: no brain found: expected tissue"):
            load_preprocessor(pair)(flat, Timings())

    def test_crops(self, tmp_path: Path) -> None:
        voxels = np.random.default_rng(0).uniform(0, 900, (21, 33, 24, 2)).astype(np.float32)
        scan = Volume(np.asfortranarray(voxels), np.diag([-1.0, 1, 1, 1]), None, "crop.nii.gz")
        bundle = write_toy_crop_bundle(tmp_path)
        target = conform_crop(scan, bundle)
        for image, modality in zip(target.images, scan.modalities, strict=True):
            assert image.tobytes() == conform_crop(modality, bundle).image.tobytes()

    def test_a_bundle_must_say_that_it_has_no_extractor(self, pair: Bundle, tmp_path: Path) -> None:
        fields = json.loads((pair.directory / "bundle.json").read_text())
        del fields["extractor_spacing_mm"]
        (tmp_path / "bundle.json").write_text(json.dumps(fields))
        with pytest.raises(InputError, match=r"bundle\.json: field missing .*extractor_spacing_mm"):
            load_bundle(tmp_path)


class TestReference:
    def test_the_first_modality_is_as_with_one_alone(self, pair: Bundle) -> None:
        model = ReferenceModel.load(pair.reference_path)
        both, one = (draw_reference(m, Keystream(bytes(32))) for m in (model, replace(model, further_ranges=())))
        assert both.image.tobytes() == one.image.tobytes()
        assert both.labels.tobytes() == one.labels.tobytes()
        first, second = both.images
        assert first.shape == second.shape == pair.grid_shape
        assert not np.array_equal(first, second)
        assert not second[both.mask == 0].any()

    def test_a_blob_in_layers_inside_the_brain(self, pair: Bundle) -> None:
        healthy = ReferenceModel.load(pair.reference_path)
        classes = len(healthy.tissue_of)
        model = replace(healthy, tissue_of=np.array([*np.zeros(classes), 2, 3, 4], np.uint8))
        sizes = []
        for seed in range(8):
            without, within = (draw_labels(m, Keystream(bytes([seed]) * 32)) for m in (healthy, model))
            blob = within >= classes
            assert np.array_equal(within[~blob], without[~blob])
            assert without[blob].all()
            sizes.append(np.bincount(model.tissue_of[within].ravel(), minlength=5)[2:] * pair.spacing_mm**3 / 1000)
        assert all(0.5 < sum(size) < 400 for size in sizes)
        assert sum(bool(size.all()) for size in sizes) >= 4

    def test_the_bank_keeps_all(self, pair: Bundle, home: Path) -> None:
        scan, labels = pair_scan()
        truth = replace(scan, voxels=np.asfortranarray(labels, dtype=np.float32))
        bank, preprocess = Bank.of(pair), load_preprocessor(pair)
        reference = bank.load(bank.add(scan, truth, preprocess, pair, load_or_create_key()))
        sent = mix(preprocess(scan, Timings()), None, 1.0)
        np.testing.assert_array_equal(reference.images, sent)


class TestSegment:
    @pytest.mark.parametrize(
        ("mode", "bar"),
        [(Plain(), 0.9), (Mixup(0.7), 0.7), (Shielded(0.7), 0.65)],
    )
    def test_the_tissues_are_found(self, mode: Mode, bar: float, pipeline: Pipeline) -> None:
        scan, truth = pair_scan()
        result = segment(scan, using(pipeline, mode))
        assert result.labels.shape == scan.shape
        assert dice(result.labels, truth, 1) > bar

    def test_all_are_sent_mixed_by_one_weight(
        self, pipeline: Pipeline, pair: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mixed: list[Reference] = []

        def spy(
            target: Conformed, reference: Reference | None, weight: float, warp: Warp | None = None
        ) -> NDArray[np.float16]:
            mixed.extend([] if reference is None else [reference])
            return mix(target, reference, weight, warp)

        monkeypatch.setattr("mixpriv.protection.modes.mix", spy)
        recording = Recording(pair)
        result = segment(pair_scan()[0], using(replace(pipeline, segmenter=recording), Mixup(0.6)))
        (sent,) = recording.seen
        assert sent.shape == (1, 2, *pair.grid_shape)
        np.testing.assert_array_equal(result.exchanges[0].sent, sent[0])
        for m, channel in enumerate(sent[0]):
            conformed, reference = result.conformed, mixed[0]
            one = replace(
                conformed, images=conformed.images[m : m + 1], intensity_ranges=conformed.intensity_ranges[m : m + 1]
            )
            np.testing.assert_array_equal(
                channel, mix(one, replace(reference, images=reference.images[m : m + 1]), 0.6)[0]
            )

    def test_two_runs_are_the_same_bytes(self, pipeline: Pipeline) -> None:
        first, second = (segment(pair_scan()[0], using(pipeline, Mixup())) for _ in range(2))
        assert first.exchanges[0].sent.tobytes() == second.exchanges[0].sent.tobytes()

    def test_a_reference_with_fewer_is_refused(self, pipeline: Pipeline) -> None:
        model = replace(ReferenceModel.load(pipeline.bundle.reference_path), further_ranges=())
        with pytest.raises(InputError, match="reference: expected 2 modalities, got 1"):
            segment(pair_scan()[0], using(replace(pipeline, reference_model=model), Mixup()))

    def test_wire_and_picture(self, pipeline: Pipeline, pair: Bundle, tmp_path: Path) -> None:
        result = segment(pair_scan()[0], using(pipeline, Mixup()))
        save_wire(tmp_path, result.exchanges, pair, "embedded")
        saved = np.moveaxis(nib.load(tmp_path / "mixture.nii.gz").get_fdata(), -1, 0)
        np.testing.assert_array_equal(saved, result.exchanges[0].sent)
        (request,) = json.loads((tmp_path / "request.json").read_text())["requests"]
        assert request["sent"]["shape"] == [1, 2, *pair.grid_shape]
        drawn = draw_picture(result)
        assert Image.open(io.BytesIO(drawn)).format == "PNG"


def test_what_is_made_for_one_refuses_several(pair: Bundle, bundle: Bundle) -> None:
    require_one_modality(bundle, "audit")
    with pytest.raises(InputError, match="bundle toy-pair: audit: expected a bundle of one modality, got FLAIR, T1c"):
        require_one_modality(pair, "audit")


def test_real_tumour_scans_are_taken_as_stripped(pair: Bundle) -> None:
    folder = Path(os.environ.get("MIXPRIV_DATA", ""), "brats2013")
    if not folder.is_dir():
        pytest.skip("MIXPRIV_DATA names no folder with brats2013")
    case = sorted(folder.glob("brats_*"))[0]
    first, second, mask = (
        load_volume(case / f"{name}.nii.gz") for name in ("Flair_subtrMeanDivStd", "T1c_subtrMeanDivStd", "brainmask")
    )
    scan = replace(first, voxels=np.asfortranarray(np.stack([first.voxels, second.voxels], axis=-1)))
    brain_ml = float((mask.voxels > 0.5).sum()) * mask.voxel_ml
    assert stripped_brain(scan, pair).volume_ml == pytest.approx(brain_ml, rel=0.01)
    assert load_preprocessor(pair)(scan, Timings()).mask.any()
