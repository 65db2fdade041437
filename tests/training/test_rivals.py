"""Other methods' training examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixpriv.errors import InputError
from mixpriv.training.config import parse_rival, rival_config
from mixpriv.training.rivals import protect_example
from mixpriv.training.specs import Rival
from tests.training.data.test_crops import CONFIG

SHAPE = (32, 32, 32)


@pytest.fixture
def ball() -> tuple[torch.Tensor, torch.Tensor]:
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    labels = (sum(g**2 for g in grid) < 0.4).astype(np.uint8)
    return torch.from_numpy(0.3 + 0.5 * labels.astype(np.float32)), torch.from_numpy(labels)


def test_a_warp_bends_image_and_labels_alike(ball: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, labels = protect_example(Rival("warp", 3.0), *ball, 1.0, np.random.default_rng(0))
    assert (labels != ball[1]).float().mean() > 0.01
    inside = image[4:-4, 4:-4, 4:-4] > 0.55
    assert (inside == labels[4:-4, 4:-4, 4:-4].bool()).float().mean() > 0.995


def test_a_window_without_labels_stays_without() -> None:
    image, labels = torch.rand(SHAPE), torch.zeros(SHAPE, dtype=torch.uint8)
    assert int(protect_example(Rival("warp", 3.0), image, labels, 1.0, np.random.default_rng(0))[1].max()) == 0


def test_noise_leaves_the_labels_and_the_outside(ball: tuple[torch.Tensor, torch.Tensor]) -> None:
    image = ball[0].clone()
    image[:4] = 0
    noisy, labels = protect_example(Rival("noise", 0.2), image, ball[1], 1.0, np.random.default_rng(0))
    assert torch.equal(labels, ball[1])
    assert float(noisy[:4].abs().max()) == 0
    assert float((noisy - image)[4:].std()) == pytest.approx(0.2, rel=0.05)


def test_a_config_for_another_method_mixes_nothing() -> None:
    config = rival_config(CONFIG, parse_rival("warp=4"))
    assert config.rival == Rival("warp", 4.0)
    assert config.mixing.plain_steps == config.schedule.steps
    steps, references = CONFIG.mixing.plain_steps, CONFIG.data.references
    assert config.changed(rival=None, plain_steps=steps, references=references) == CONFIG


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("warp", "expected NAME=STRENGTH, got 'warp'"),
        ("blur=2", "expected one of warp, noise, got 'blur'"),
        ("noise=0", "expected more than 0, got 0.0"),
    ],
)
def test_what_is_no_method_is_said(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rival_config(CONFIG, parse_rival(text))
