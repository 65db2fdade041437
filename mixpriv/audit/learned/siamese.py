"""A2: linkage by a Siamese 3-D network that learned on requests of other people. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve
from torch import Tensor, nn
from torch.nn import functional as F

from mixpriv.audit.context import Context, guessed_precision
from mixpriv.audit.findings import Outcome, finding
from mixpriv.audit.images import locally_normalised
from mixpriv.audit.linkage import centre, rank
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
        self.output = nn.Linear(size, _FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.output(self.body(images).flatten(1)), dim=1)


def link(context: Context) -> Outcome:
    """Train on the attacker's people and keys, then link every request to the gallery."""
    torch.manual_seed(context.budget.seed)
    encoder = _train(context)
    gallery = [visit.subject for visit in context.cohort.gallery]
    subjects = [sent.visit.subject for sent in context.sent]
    with torch.no_grad():
        seen = encoder(_tensor(context, [sent.image for sent in context.sent]))
        held = encoder(_tensor(context, [visit.image for visit in context.cohort.gallery]))
    scores = centre((seen @ held.T).double().numpy(), subjects)
    ranks = rank(scores, subjects, gallery)
    chance = context.cohort.chance()
    f1 = _best_f1(scores, np.array(subjects)[:, None] == np.array(gallery)[None])
    name = context.name
    return Outcome(
        [
            finding("A2", name, "AUC", ranks.above, subjects, 0.5),
            finding("A2", name, "rank-1", ranks.first, subjects, chance),
            finding("A2", name, "mAP", ranks.precision, subjects, guessed_precision(gallery)),
            finding("A2", name, "F1 at the best threshold", [f1] * len(subjects), subjects, 2 * chance / (1 + chance)),
        ]
    )


def _tensor(context: Context, images: Sequence[NDArray[np.floating[Any]]]) -> Tensor:
    """Two channels of each image on the working grid (N, 2, D, H, W), of about unit strength."""
    spacing = context.linker.factor * context.environment.spacing_mm
    rows = []
    for image in images:
        working = coarsen(image, context.linker.factor)
        parts = fine_structure(working, spacing), locally_normalised(working, spacing)
        rows.append(np.stack(parts) * np.float32(np.sqrt(working.size)))
    return torch.from_numpy(np.stack(rows))


def _train(context: Context) -> Encoder:
    """Contrast each request with all scans of the batch (InfoNCE); small shifts make more of few people."""
    known = context.cohort.known
    subjects = np.array([visit.subject for visit in known])
    scans = _tensor(context, [visit.image for visit in known])
    requests = _tensor(context, [sent.image for sent in context.practice(known, _DRAWS)])
    rng = np.random.default_rng(context.budget.seed)
    encoder = Encoder(scans.shape[2:])
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=2e-3, weight_decay=1e-2)
    people = np.unique(subjects)
    for _ in range(context.budget.steps):
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
    precision, recall, _ = precision_recall_curve(right.ravel(), scores.ravel())
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())
