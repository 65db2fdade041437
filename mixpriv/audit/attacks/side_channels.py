"""A8: what a request says beside its picture: the weight, the warp, its size, and fields that name a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.audit.context import Context
from mixpriv.audit.exchange import identifying_parts
from mixpriv.audit.findings import Finding, Outcome, finding
from mixpriv.audit.registry import attack
from mixpriv.audit.simulation import Sent
from mixpriv.bundle import DEFAULT_BUNDLE, load_bundle
from mixpriv.protection.warp import displacement
from mixpriv.reid.features import Image, coarsen, fine_structure
from mixpriv.reid.registration import Registration
from mixpriv.wire.contract import SegmenterContract

_RIDGE = 10.0


@attack("A8", "Weight, warp, size and fields of a request")
def run(context: Context) -> Outcome:
    """Regress secrets from the picture; look at size and fields."""
    found = [*_metadata(context)]
    if context.mixes and context.draws_weights:
        found.append(_weight(context))
    if context.warps:
        found.append(_displacement(context))
    return Outcome(found)


def _metadata(context: Context) -> list[Finding]:
    """What of a request that was really sent is beyond the contract, and how many sizes requests have."""
    sent = context.sent[: len(context.few)]
    subjects = [one.visit.subject for one in sent]
    contract = replace(SegmenterContract.of(load_bundle(DEFAULT_BUNDLE)), multiple=1)  # simulated grids are their own
    counts = [float(len(identifying_parts(one.image[None], contract))) for one in sent]
    sizes = float(len({one.image.shape for one in context.sent}))
    return [
        finding("A8", context.name, "identifying fields", counts, subjects, 0.0),
        finding("A8", context.name, "sizes of requests", [sizes] * len(sent), subjects, 1.0),
    ]


def _summary(image: Image, template: Image, spacing_mm: float) -> NDArray[np.float64]:
    """What a picture is like in a few numbers: intensities, strength of structure at three scales, template's share."""
    inside = image[image > 0]
    values = [*np.quantile(inside, np.linspace(0.02, 0.98, 13)), inside.std(), np.count_nonzero(image) / image.size]
    for mm in (1.0, 3.0, 6.0):
        detail, other = (one - ndimage.gaussian_filter(one, mm / spacing_mm) for one in (image, template))
        values += [detail.std(), float((detail * other).mean() / (other**2).mean()), np.abs(detail).mean()]
    return np.array(values, np.float64)


def _weight(context: Context) -> Finding:
    """R² of the weight, by ridge regression learned on requests of the attacker's own."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    practice = context.practice(context.cohort.known, 3)

    def rows(sent: Sequence[Sent]) -> NDArray[np.float64]:
        images = [one.image.astype(np.float32) for one in sent]
        return np.stack([_summary(image, context.template, context.environment.spacing_mm) for image in images])

    weights = np.array([one.secret.weight for one in practice])
    said = make_pipeline(StandardScaler(), Ridge(_RIDGE)).fit(rows(practice), weights).predict(rows(context.sent))
    truth = np.array([one.secret.weight for one in context.sent])
    explained = 1 - (said - truth) ** 2 / max(float(truth.var()), 1e-9)
    return finding("A8", context.name, "R², weight", explained, [one.visit.subject for one in context.sent], 0.0)


def _displacement(context: Context) -> Finding:
    """R² of the warp's displacement in the brain, guessed by registering the template to the picture."""
    factor, spacing = context.linker.factor, context.linker.factor * context.environment.spacing_mm
    registration = Registration.of([fine_structure(coarsen(context.template, factor), spacing)])
    sent = context.sent[: len(context.few)]
    explained = []
    for one in sent:
        assert one.secret.warp is not None  # noqa: S101 - the mode has a warp
        guess = registration.fit(fine_structure(coarsen(one.image, factor), spacing)).moves[0]
        moves = displacement(one.secret.warp.forward, context.environment.shape)
        truth = np.stack([coarsen(axis, factor) for axis in moves]) / factor
        brain = coarsen(one.image, factor) > 0.05
        left = ((guess - truth)[:, brain] ** 2).sum()
        explained.append(float(1 - left / max(float((truth[:, brain] ** 2).sum()), 1e-9)))
    return finding("A8", context.name, "R², displacement", explained, [one.visit.subject for one in sent], 0.0)
