"""A4: many requests of one scan, by test-time augmentation, retries or several installations, are put together.

Where each request goes to another operator (``--spread``), it is what so many of them find who collude.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.audit.attacks.subtraction import registered_to
from mixpriv.audit.cohort import Visit
from mixpriv.audit.context import Context
from mixpriv.audit.findings import Finding, Outcome, finding
from mixpriv.audit.images import ssim
from mixpriv.audit.registry import attack
from mixpriv.audit.simulation import attacker_key, several
from mixpriv.key import ClientKey
from mixpriv.reid.features import Image

Stack = NDArray[np.float32]
"""Requests of one scan, (K, D, H, W)."""

_RIDGE = 1e-3
_FEATURES = 11
_EVERY = 7
"""Of the voxels, the learned fusion takes each seventh: neighbours say the same."""


@attack("A4", "Many requests of one scan put together")
def run(context: Context) -> Outcome:
    """Fuse K requests of one scan by every way, for every K of the budget."""
    if not (context.mixes or context.warps):
        return Outcome([])  # the same bytes again
    found: list[Finding] = []
    pictures: dict[str, Image] = {}
    most = max(context.budget.requests)
    stacks = [_requests(context, visit, most, key) for key, visit in context.tried]
    visits = [visit for _, visit in context.tried]
    practice = [(_requests(context, visit, most, attacker_key(0)), visit) for visit in context.cohort.known[:6]]
    single = _similarity(context, [stack[0] for stack in stacks])
    for count in context.budget.requests:
        fusions = FUSIONS | {"learned": learn([(stack[:count], visit) for stack, visit in practice])}
        for name, fuse in fusions.items():
            fused = [fuse(stack[:count]) for stack in stacks]
            suffix = f", {name} of {count}"
            gain = np.array(_similarity(context, fused)) - single
            subjects = [visit.subject for visit in visits]
            found.append(finding("A4", context.name, f"SSIM over one request{suffix}", gain, subjects, 0.0))
            if name == "mean":  # what so many operators find who put together what they have
                found += context.linked("A4", fused, subjects, suffix)
            if count == most:
                found += context.recovered("A4", suffix, fused, visits)
                pictures[f"A4 {name} of {count}"] = fused[0]
    return Outcome(found, pictures)


def _requests(context: Context, visit: Visit, count: int, key: ClientKey) -> Stack:
    """Requests of a scan; where they are warped, each is registered to the first."""
    sent = several(context.mode, visit, context.environment, key, count)
    images = [one.image.astype(np.float32) for one in sent]
    if context.warps:
        images[1:] = registered_to(images[1:], images[0], context.environment.spacing_mm)
    return np.stack(images)


def _similarity(context: Context, images: Sequence[Image]) -> list[float]:
    return [
        ssim(image, visit.image, visit.conformed.mask > 0, context.environment.spacing_mm)
        for image, (_, visit) in zip(images, context.tried, strict=True)
    ]


def mean(stack: Stack) -> Image:
    """What the references do not share remains."""
    return np.asarray(stack.mean(axis=0), np.float32)


def median(stack: Stack) -> Image:
    """As the mean, but single bright references count for nothing."""
    return np.asarray(np.median(stack, axis=0), np.float32)


def independent(stack: Stack, steps: int = 60) -> Image:
    """The independent component (FastICA, Hyvarinen 1999) that is most like the mean, as an image in [0, 1]."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    there = stack.max(axis=0) > 0
    signals = stack[:, there].T.astype(np.float64)
    ica = FastICA(whiten="unit-variance", whiten_solver="eigh", max_iter=steps, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an attacker takes what he has after so many steps
        sources = ica.fit_transform(signals)
    average = signals.mean(axis=1)
    similarity = sources.T @ (average - average.mean())
    best = int(np.abs(similarity).argmax())
    source = sources[:, best] * np.sign(similarity[best])
    low, high = np.percentile(source, (0.5, 99.5))
    image = np.zeros(there.shape, np.float32)
    image[there] = np.clip((source - low) / max(high - low, 1e-9), 0, 1)
    return image


FUSIONS: dict[str, Callable[[Stack], Image]] = {"mean": mean, "median": median, "ICA": independent}


def _features(stack: Stack) -> NDArray[np.float32]:
    """(features, D, H, W): what the requests say of a voxel and its surroundings."""
    plain = [stack.mean(axis=0), np.median(stack, axis=0), stack.std(axis=0), stack.min(axis=0), stack.max(axis=0)]
    smooth = [ndimage.gaussian_filter(one, 1.0) for one in plain]
    return np.asarray(np.stack([*plain, *smooth, np.ones_like(plain[0])]), np.float32)


def learn(practice: Sequence[tuple[Stack, Visit]]) -> Callable[[Stack], Image]:
    """Linear fusion of simple features, fitted on the attacker's own scans (ridge regression)."""
    from sklearn.linear_model import Ridge

    parts = [_features(stack).reshape(_FEATURES, -1)[:, ::_EVERY] for stack, _ in practice]
    xs = np.concatenate(parts, axis=1).T.astype(np.float64)
    ys = np.concatenate([visit.image.ravel()[::_EVERY] for _, visit in practice])
    weights = Ridge(_RIDGE * np.square(xs).sum() / _FEATURES, fit_intercept=False).fit(xs, ys).coef_

    def fuse(stack: Stack) -> Image:
        return np.clip(np.tensordot(weights.astype(np.float32), _features(stack), 1), 0, 1).astype(np.float32)

    return fuse
