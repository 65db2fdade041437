"""A8: what a request says beside its picture: the weight, the warp, its size, and fields that name a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.audit.exchange import identifying_parts
from mixpriv.audit.findings import Finding, Outcome, finding
from mixpriv.audit.scene import Scene
from mixpriv.audit.views import Sent
from mixpriv.bundle import DEFAULT_BUNDLE, load_bundle
from mixpriv.protection.warp import displacement
from mixpriv.reid.features import Image, coarsen, fine_structure
from mixpriv.reid.registration import Matcher
from mixpriv.wire.contract import SegmenterContract

_RIDGE = 10.0


def attack(scene: Scene) -> Outcome:
    """Regress secrets from the picture; look at size and fields."""
    found = [*_metadata(scene)]
    if scene.mode.mixes and scene.mode.weight is None:
        found.append(_weight(scene))
    if scene.mode.warp_mm:
        found.append(_displacement(scene))
    return Outcome(found)


def _metadata(scene: Scene) -> list[Finding]:
    """What of a request that was really sent is beyond the contract, and how many sizes requests have."""
    sent = scene.sent[: len(scene.few)]
    subjects = [one.visit.subject for one in sent]
    contract = replace(SegmenterContract.of(load_bundle(DEFAULT_BUNDLE)), multiple=1)  # worlds have grids of their own
    counts = [float(len(identifying_parts(one.view.image[None], contract))) for one in sent]
    sizes = float(len({one.view.image.shape for one in scene.sent}))
    return [
        finding("A8", scene.mode.name, "identifying fields", counts, subjects, 0.0),
        finding("A8", scene.mode.name, "sizes of requests", [sizes] * len(sent), subjects, 1.0),
    ]


def _summary(image: Image, template: Image, spacing_mm: float) -> NDArray[np.float64]:
    """What a picture is like in a few numbers: intensities, strength of structure at three scales, template's share."""
    inside = image[image > 0]
    values = [*np.quantile(inside, np.linspace(0.02, 0.98, 13)), inside.std(), np.count_nonzero(image) / image.size]
    for mm in (1.0, 3.0, 6.0):
        detail, other = (one - ndimage.gaussian_filter(one, mm / spacing_mm) for one in (image, template))
        values += [detail.std(), float((detail * other).mean() / (other**2).mean()), np.abs(detail).mean()]
    return np.array(values, np.float64)


def _weight(scene: Scene) -> Finding:
    """R² of the weight, by ridge regression learned on requests of the attacker's own."""
    practice = scene.practice(scene.people.known, 3)

    def rows(sent: Sequence[Sent]) -> NDArray[np.float64]:
        images = [one.view.image.astype(np.float32) for one in sent]
        return np.stack([_summary(image, scene.template, scene.world.spacing_mm) for image in images])

    x, y = rows(practice), np.array([one.secret.weight for one in practice])
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    x = (x - mean) / spread
    weights = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ (y - y.mean()))
    said = (rows(scene.sent) - mean) / spread @ weights + y.mean()
    truth = np.array([one.secret.weight for one in scene.sent])
    explained = 1 - (said - truth) ** 2 / max(float(truth.var()), 1e-9)
    return finding("A8", scene.mode.name, "R², weight", explained, [one.visit.subject for one in scene.sent], 0.0)


def _displacement(scene: Scene) -> Finding:
    """R² of the warp's displacement in the brain, guessed by registering the template to the picture."""
    factor, spacing = scene.linker.factor, scene.linker.factor * scene.world.spacing_mm
    matcher = Matcher.of([fine_structure(coarsen(scene.template, factor), spacing)])
    sent = scene.sent[: len(scene.few)]
    explained = []
    for one in sent:
        assert one.secret.warp is not None  # noqa: S101 - the mode has a warp
        guess = matcher.fit(fine_structure(coarsen(one.view.image, factor), spacing)).moves[0]
        bent = displacement(one.secret.warp.forward, scene.world.shape)
        truth = np.stack([coarsen(axis, factor) for axis in bent]) / factor
        brain = coarsen(one.view.image, factor) > 0.05
        left = ((guess - truth)[:, brain] ** 2).sum()
        explained.append(float(1 - left / max(float((truth[:, brain] ** 2).sum()), 1e-9)))
    return finding("A8", scene.mode.name, "R², displacement", explained, [one.visit.subject for one in sent], 0.0)
