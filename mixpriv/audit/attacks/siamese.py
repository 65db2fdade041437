"""A2: linkage by a Siamese 3-D network that learned on requests of other people. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mixpriv.audit.findings import Outcome, finding
from mixpriv.audit.images import locally_normalised
from mixpriv.audit.linkage import centre, rank
from mixpriv.audit.scene import Scene, guessed_precision
from mixpriv.reid.features import coarsen, fine_structure

_WIDTH, _FEATURES, _BATCH, _DRAWS = 12, 48, 8, 2
_TEMPERATURE = 0.1


class Encoder(nn.Module):
    """Fine structure (N, 2, D, H, W) to a vector (N, features) of unit norm; where structure lies is kept."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(2, _WIDTH, 3, 2, 1), nn.LeakyReLU(0.1),
            nn.Conv3d(_WIDTH, 2 * _WIDTH, 3, 2, 1), nn.InstanceNorm3d(2 * _WIDTH), nn.LeakyReLU(0.1),
            nn.Conv3d(2 * _WIDTH, 2 * _WIDTH, 3, 2, 1), nn.LeakyReLU(0.1),
        )  # fmt: skip
        with torch.no_grad():
            size = int(self.body(torch.zeros(1, 2, *shape)).numel())
        self.head = nn.Linear(size, _FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.head(self.body(images).flatten(1)), dim=1)


def attack(scene: Scene) -> Outcome:
    """Train on the attacker's people and keys, then link every request to the gallery."""
    torch.manual_seed(scene.effort.seed)
    encoder = _train(scene)
    gallery = [visit.subject for visit in scene.people.gallery]
    subjects = [sent.visit.subject for sent in scene.sent]
    with torch.no_grad():
        seen = encoder(_tensor(scene, [sent.view.image for sent in scene.sent]))
        held = encoder(_tensor(scene, [visit.image for visit in scene.people.gallery]))
    scores = centre((seen @ held.T).double().numpy(), subjects)
    ranks = rank(scores, subjects, gallery)
    chance = scene.people.chance()
    f1 = _best_f1(scores, np.array(subjects)[:, None] == np.array(gallery)[None])
    name = scene.mode.name
    return Outcome(
        [
            finding("A2", name, "AUC", ranks.above, subjects, 0.5),
            finding("A2", name, "rank-1", ranks.first, subjects, chance),
            finding("A2", name, "mAP", ranks.precision, subjects, guessed_precision(gallery)),
            finding("A2", name, "F1 at the best threshold", [f1] * len(subjects), subjects, 2 * chance / (1 + chance)),
        ]
    )


def _tensor(scene: Scene, images: Sequence[NDArray[np.floating[Any]]]) -> Tensor:
    """Two channels of each image on the working grid (N, 2, D, H, W), of about unit strength."""
    spacing = scene.linker.factor * scene.world.spacing_mm
    rows = []
    for image in images:
        working = coarsen(image, scene.linker.factor)
        parts = fine_structure(working, spacing), locally_normalised(working, spacing)
        rows.append(np.stack(parts) * np.float32(np.sqrt(working.size)))
    return torch.from_numpy(np.stack(rows))


def _train(scene: Scene) -> Encoder:
    """Contrast each request with all scans of the batch (InfoNCE); small shifts make more of few people."""
    known = scene.people.known
    subjects = np.array([visit.subject for visit in known])
    scans = _tensor(scene, [visit.image for visit in known])
    requests = _tensor(scene, [sent.view.image for sent in scene.practice(known, _DRAWS)])
    rng = np.random.default_rng(scene.effort.seed)
    encoder = Encoder(scans.shape[2:])
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=2e-3, weight_decay=1e-2)
    people = np.unique(subjects)
    for _ in range(scene.effort.steps):
        chosen = rng.choice(people, min(_BATCH, len(people)), replace=False)
        own = [np.flatnonzero(subjects == name) for name in chosen]
        scan = np.array([rng.choice(index) for index in own])
        request = np.array([rng.choice(index) + len(known) * rng.integers(_DRAWS) for index in own])
        shift = tuple(int(n) for n in rng.integers(-1, 2, 3))
        seen = encoder(torch.roll(requests[request], shift, (2, 3, 4)))
        logits = seen @ encoder(scans[scan]).T / _TEMPERATURE
        right = torch.arange(len(chosen))
        loss = F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return encoder.eval()


def _best_f1(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    order = np.argsort(-scores.ravel())
    hits = np.cumsum(right.ravel()[order])
    return float((2 * hits / (np.arange(1, len(order) + 1) + right.sum())).max())
