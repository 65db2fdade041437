"""Self-training: real scans beside labelled ones, a teacher's soft labels, people held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mixpriv.cli.research.main import main
from mixpriv.errors import InputError
from mixpriv.training.config import load_config
from mixpriv.training.data.labels import TISSUES, Head
from mixpriv.training.data.sources import SyntheticHeads
from mixpriv.training.loop import Initial
from mixpriv.training.networks import SpaceToDepthUNet
from mixpriv.training.specs import Unlabelled
from mixpriv.training.unlabelled import SoftScan, WithUnlabelled, soft_labels
from tests.training.test_training import CONFIG

C = len(TISSUES)
FULL = (slice(0, 64),) * 3
SETTINGS = Unlabelled(0.5, "brain-t1", ("sub-1",))


@pytest.fixture
def soft() -> SoftScan:
    """A ball of white matter with a grey rim, of which the teacher is half sure."""
    radius = np.sqrt(sum(g**2 for g in np.meshgrid(*[np.linspace(-1.5, 1.5, 64)] * 3, indexing="ij")))
    mask = radius < 1
    shares = np.zeros((C, 64, 64, 64), np.float16)
    shares[1], shares[2] = mask * (0.5 + 0.5 * (radius < 0.6)), mask * 0.5 * (radius >= 0.6)
    shares[0] = 1 - shares[1:].sum(0)
    return SoftScan((mask * (1 - 0.4 * radius)).astype(np.float32), mask, shares)


class TestDrawing:
    def test_soft_labels_move_with_the_image(self, head: Head, soft: SoftScan) -> None:
        targets = WithUnlabelled(SyntheticHeads([head], CONFIG), [soft], CONFIG, 1.0)
        images, shares = targets.draw(FULL, np.random.default_rng(0))
        assert images.shape == (1, 64, 64, 64)
        assert shares.shape == (C, 64, 64, 64)
        torch.testing.assert_close(shares.sum(0), torch.ones(64, 64, 64))
        assert float(images[0][shares[0] > 0.99].mean()) < 0.01
        assert float(images[0][shares[1] > 0.9].mean()) > float(images[0][shares[2] > 0.45].mean())
        again = targets.draw(FULL, np.random.default_rng(0))
        assert torch.equal(images, again[0])
        assert torch.equal(shares, again[1])

    def test_a_share_of_the_targets_is_real(self, head: Head, soft: SoftScan) -> None:
        targets = WithUnlabelled(SyntheticHeads([head], CONFIG), [soft], CONFIG, 0.5)
        window = (slice(16, 48),) * 3
        kinds = [targets.draw(window, np.random.default_rng(k))[1].ndim for k in range(12)]
        assert set(kinds) == {3, 4}


def test_the_teacher_sees_both_sides() -> None:
    torch.manual_seed(0)
    teacher, image = SpaceToDepthUNet(1, C, (8, 8, 16)), torch.rand(16, 16, 16)
    answer = soft_labels(teacher, image)
    torch.testing.assert_close(answer.sum(0), torch.ones(16, 16, 16))
    torch.testing.assert_close(soft_labels(teacher, image.flip(0)).flip(1), answer)


class TestReading:
    TEACHER = Initial({}, 0)

    def test_a_config_without_them(self, head: Head, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="expected a config with \\[unlabelled\\]"):
            WithUnlabelled.read(SyntheticHeads([head], CONFIG), CONFIG, tmp_path, self.TEACHER)

    def test_those_held_out_are_not_read(self, head: Head, tmp_path: Path) -> None:
        (tmp_path / "sub-1" / "anat").mkdir(parents=True)
        (tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz").touch()
        config = CONFIG.changed(unlabelled=SETTINGS)
        with pytest.raises(InputError, match="that are not held out, found none"):
            WithUnlabelled.read(SyntheticHeads([head], config), config, tmp_path, self.TEACHER)

    def test_the_config_keeps_people_for_the_audit(self) -> None:
        settings = load_config("brain-t1-structures").segmenter.data.unlabelled
        assert settings is not None
        assert len(settings.held_out) == 8

    def test_a_folder_needs_a_teacher(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["train", "brain-t1-structures", "--data", str(tmp_path), "-o", str(tmp_path / "run")]
        assert main([*arguments, "--unlabelled", str(tmp_path)]) == 2
        assert "--unlabelled, --teacher: expected both or neither" in capsys.readouterr().err
