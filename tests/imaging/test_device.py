"""A scan worked on by a CUDA device, emulated: the same bytes out, the same labels back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixpriv import cuda
from mixpriv.bundle import Bundle
from mixpriv.client.pipeline import Pipeline, open_pipeline
from mixpriv.client.segment import segment
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import DeviceError, InputError
from mixpriv.imaging.device import CPU, PAYS_FROM_SCANS, CudaDevice, choose_device
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from mixpriv.imaging.volume import Volume
from mixpriv.key import ClientKey
from mixpriv.protection.modes import Mixup, Mode, Plain
from tests.support.phantom import brain_scan
from tests.support.pipelines import using
from tests.support.toybundle import write_toy_crop_bundle


@pytest.fixture
def emulated(emulation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cuda.EMULATION, str(emulation))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an extension nor a device."""
    monkeypatch.setattr(cuda, "_load_from", lambda _: (None, cuda.NOT_COMPILED))


def open_on_device(bundle: Bundle) -> Pipeline:
    segmenter = InProcessSegmenter(bundle.segmenter_path)
    return open_pipeline(bundle, Mixup(), ClientKey(bytes(range(32))), segmenter, device=CudaDevice())


def flipped(scan: Volume) -> Volume:
    """The scan in another orientation, as most are stored: two of its axes run the other way."""
    turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    turn[:2, 3] = np.array(scan.voxels.shape[:2]) - 1
    return replace(scan, voxels=np.asfortranarray(scan.voxels[::-1, ::-1]), affine=scan.affine @ turn)


@pytest.mark.usefixtures("emulated")
class TestTheSameAsOnTheProcessor:
    @pytest.mark.parametrize("mode", [Plain(), Mixup(references=2)])
    def test_heads(self, mode: Mode, pipeline: Pipeline, bundle: Bundle) -> None:
        scan = flipped(brain_scan()[0])
        here, there = segment(scan, using(pipeline, mode)), segment(scan, using(open_on_device(bundle), mode))
        for one, other in zip(here.exchanges, there.exchanges, strict=True):
            np.testing.assert_array_equal(one.sent, other.sent)
        np.testing.assert_array_equal(here.labels, there.labels)
        assert there.labels.flags.f_contiguous

    def test_crops(self, tmp_path: Path, home: Path) -> None:
        bundle = write_toy_crop_bundle(tmp_path / "crops")
        voxels = np.random.default_rng(0).random((24, 32, 20), np.float32)
        scan = Volume(np.asfortranarray(voxels), np.diag([1.0, 1.0, 1.0, 1.0]), None, "crop")
        pipeline = open_on_device(bundle)
        there, here = (segment(scan, c) for c in (pipeline, replace(pipeline, preprocess=load_preprocessor(bundle))))
        np.testing.assert_array_equal(here.exchanges[0].sent, there.exchanges[0].sent)
        np.testing.assert_array_equal(here.labels, there.labels)


class TestChoice:
    def test_none_is_asked_for(self, without: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MIXPRIV_DEVICE", raising=False)
        assert choose_device(None, 100) is CPU
        assert choose_device("auto", 100) is CPU
        assert choose_device("cpu") is CPU

    def test_cuda_that_is_not_there_says_what_is_missing(self, without: None) -> None:
        with pytest.raises(DeviceError, match=r"^device cuda: mixpriv was installed without its CUDA extension, see"):
            choose_device("cuda")

    def test_an_emulation_is_never_chosen_but_by_name(self, emulated: None) -> None:
        assert choose_device("auto", 100) is CPU
        assert choose_device("cuda").name == "cuda: emulation 0 on the CPU"

    def test_auto_takes_what_pays(self, emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda, "is_emulation", lambda: False)
        assert choose_device("auto", PAYS_FROM_SCANS - 1) is CPU
        assert choose_device("auto", PAYS_FROM_SCANS) is not CPU

    def test_the_environment_chooses_too(self, emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MIXPRIV_DEVICE", "cuda")
        assert choose_device(None) is not CPU
        assert choose_device("cpu") is CPU
        monkeypatch.setenv("MIXPRIV_DEVICE", "tpu")
        with pytest.raises(InputError, match=r"^device: expected one of auto, cpu, cuda, got 'tpu'$"):
            choose_device(None)
