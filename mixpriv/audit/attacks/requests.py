"""A4: many requests of one scan, by test-time augmentation, retries or several installations, are put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.audit.attacks.subtraction import bent_onto
from mixpriv.audit.findings import Finding, Outcome, finding
from mixpriv.audit.images import ssim
from mixpriv.audit.people import Visit
from mixpriv.audit.scene import Scene
from mixpriv.audit.views import attacker_key
from mixpriv.key import ClientKey
from mixpriv.reid.features import Image

Stack = NDArray[np.float32]
"""Requests of one scan, (K, D, H, W)."""

_RIDGE = 1e-3
_EVERY = 7
"""Of the voxels, the learned fusion takes each seventh: neighbours say the same."""


def attack(scene: Scene) -> Outcome:
    """Fuse K requests of one scan by every way, for every K of the effort."""
    if scene.mode.name == "none":
        return Outcome([])  # the same bytes again
    found: list[Finding] = []
    pictures: dict[str, Image] = {}
    most = max(scene.effort.requests)
    stacks = [_requests(scene, visit, most, key) for key, visit in scene.tried]
    visits = [visit for _, visit in scene.tried]
    practice = [(_requests(scene, visit, most, attacker_key(0)), visit) for visit in scene.people.known[:6]]
    alone = _likeness(scene, [stack[0] for stack in stacks])
    for count in scene.effort.requests:
        fusions = FUSIONS | {"learned": learn([(stack[:count], visit) for stack, visit in practice])}
        for name, fuse in fusions.items():
            fused = [fuse(stack[:count]) for stack in stacks]
            suffix = f", {name} of {count}"
            gain = np.array(_likeness(scene, fused)) - alone
            subjects = [visit.subject for visit in visits]
            found.append(finding("A4", scene.mode.name, f"SSIM over one request{suffix}", gain, subjects, 0.0))
            if count == most:
                found += scene.recovered("A4", suffix, fused, visits)
                found += scene.linked("A4", fused, subjects, suffix) if name == "mean" else []
                pictures[f"A4 {name} of {count}"] = fused[0]
    return Outcome(found, pictures)


def _requests(scene: Scene, visit: Visit, count: int, key: ClientKey) -> Stack:
    """Requests of a scan; where they are bent, each is registered to the first."""
    images = [scene.mode.send(visit, scene.world, key, index).view.image.astype(np.float32) for index in range(count)]
    if scene.mode.warp_mm:
        images[1:] = bent_onto(images[1:], images[0], scene.world.spacing_mm)
    return np.stack(images)


def _likeness(scene: Scene, images: Sequence[Image]) -> list[float]:
    return [
        ssim(image, visit.image, visit.target.mask > 0, scene.world.spacing_mm)
        for image, (_, visit) in zip(images, scene.tried, strict=True)
    ]


def mean(stack: Stack) -> Image:
    """What the references do not share remains."""
    return np.asarray(stack.mean(axis=0), np.float32)


def median(stack: Stack) -> Image:
    """As the mean, but single bright references count for nothing."""
    return np.asarray(np.median(stack, axis=0), np.float32)


def independent(stack: Stack, steps: int = 60) -> Image:
    """The independent component (FastICA, Hyvarinen 1999) that is most like the mean, as an image in [0, 1]."""
    there = stack.max(axis=0) > 0
    signals = stack[:, there].astype(np.float64)
    centred = signals - signals.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(centred @ centred.T / centred.shape[1])
    whitening = (vectors / np.sqrt(np.maximum(values, 1e-9))).T
    white = whitening @ centred
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((len(stack), len(stack))))[0]
    for _ in range(steps):
        bent = np.tanh(turn @ white)
        turn = bent @ white.T / white.shape[1] - (1 - bent**2).mean(axis=1)[:, None] * turn
        left, _, right = np.linalg.svd(turn, full_matrices=False)
        turn = left @ right
    sources = turn @ white
    average = centred.mean(axis=0)
    likeness = sources @ average / np.linalg.norm(average)
    best = int(np.abs(likeness).argmax())
    source = sources[best] * np.sign(likeness[best])
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
    xs = np.concatenate([_features(stack).reshape(11, -1)[:, ::_EVERY] for stack, _ in practice], axis=1)
    ys = np.concatenate([visit.image.ravel()[::_EVERY] for _, visit in practice])
    xs64 = xs.astype(np.float64)
    gram = xs64 @ xs64.T
    weights = np.linalg.solve(gram + _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), xs64 @ ys)

    def fuse(stack: Stack) -> Image:
        return np.clip(np.tensordot(weights.astype(np.float32), _features(stack), 1), 0, 1).astype(np.float32)

    return fuse
