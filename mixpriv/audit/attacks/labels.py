"""A7: the target's segmentation without the key, from the answer and public knowledge; and linkage by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mixpriv.audit.findings import Finding, Outcome, finding
from mixpriv.audit.linkage import Linker
from mixpriv.audit.scene import Scene
from mixpriv.audit.views import Sent, View, attacker_key
from mixpriv.protection.keystream import Stream
from mixpriv.protection.reference import draw_reference
from mixpriv.reid.features import Image

Probabilities = NDArray[np.float32]
"""(C, D, H, W)."""

_RIDGE = 1e-3


def attack(scene: Scene) -> Outcome:
    """Segment every target by every guess and take the best; nothing to do without known labels."""
    if any(visit.labels is None for visit in (*scene.few, *scene.people.known)):
        return Outcome([])
    prior = scene.world.model.average()
    subjects = [visit.subject for _, visit in scene.tried]
    known = [_dice(prior, sent) for sent in scene.answered]
    guesses: dict[str, Callable[[View], Probabilities]] = {
        "the answer as it is": _answer,
        "linear, average reference": lambda view: _linear(view, prior, scene.mode.mean_weight(scene.world)),
        "linear, another reference": lambda view: _linear(
            view, _other_reference(scene), scene.mode.mean_weight(scene.world)
        ),
        "learned": _learn(scene, prior),
    }
    found: list[Finding] = []
    images: dict[str, list[Image]] = {}
    for name, guess in guesses.items():
        guessed = [guess(sent.view) for sent in scene.answered]
        over = [_dice(one, sent) - base for one, sent, base in zip(guessed, scene.answered, known, strict=True)]
        found.append(finding("A7", scene.mode.name, f"Dice over atlas prior, {name}", over, subjects, 0.0, "template"))
        images[name] = [_as_image(one) for one in guessed]
    best = max(images, key=lambda name: next(f.value for f in found if f.figure.endswith(name)))
    linker = Linker.of([_as_image(_one_hot(visit.labels, scene.world.classes)) for visit in scene.people.gallery
                        if visit.labels is not None], scene.world.spacing_mm)  # fmt: skip
    if len(linker.details) == len(scene.people.gallery):
        found += scene.linked("A7", images[best], subjects, f", labels by {best}", linker)
    return Outcome(found, {f"A7 labels, {best}": images[best][0]})


def _answer(view: View) -> Probabilities:
    assert view.answer is not None  # noqa: S101 - these requests were answered
    known = view.answer.astype(np.float32) / 255
    return np.concatenate([np.maximum(0, 1 - known.sum(axis=0, keepdims=True)), known])


def _linear(view: View, reference: Probabilities, weight: float) -> Probabilities:
    return np.maximum(0, (_answer(view) - (1 - weight) * reference) / weight)


def _other_reference(scene: Scene) -> Probabilities:
    reference = draw_reference(scene.world.model, Stream(attacker_key(0).derive("another")))
    return _one_hot(reference.labels, scene.world.classes)


def _one_hot(labels: NDArray[np.uint8] | None, classes: int) -> Probabilities:
    return np.asarray(np.stack([labels == value for value in range(classes)]), np.float32)


def _features(view: View, prior: Probabilities) -> NDArray[np.float64]:
    """(features, voxels): the answer, the atlas and the image, and how they go together."""
    answer, image = _answer(view), view.image.astype(np.float32)[None]
    parts = [answer, prior, answer * prior, image, image**2, image * answer, np.ones_like(image)]
    return np.asarray(np.concatenate(parts).reshape(sum(len(p) for p in parts), -1), np.float64)


def _learn(scene: Scene, prior: Probabilities) -> Callable[[View], Probabilities]:
    """Ridge regression from answer, atlas and image to labels, on the attacker's own requests."""
    classes = scene.world.classes
    gram: NDArray[np.float64] | float = 0.0
    cross: NDArray[np.float64] | float = 0.0
    for sent in scene.practice(scene.people.known[:6], 1, answer=True):
        x, y = _features(sent.view, prior), _one_hot(sent.visit.labels, classes).reshape(classes, -1)
        gram, cross = gram + x @ x.T, cross + x @ y.T
    gram = np.asarray(gram)
    weights = np.linalg.solve(gram + _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), cross)

    def guess(view: View) -> Probabilities:
        said = weights.T @ _features(view, prior)
        return np.asarray(said.reshape(classes, *view.image.shape), np.float32)

    return guess


def _dice(probabilities: Probabilities, sent: Sent) -> float:
    """Mean Dice over the foreground classes against the scan's own labels."""
    truth, guess = sent.visit.labels, probabilities.argmax(axis=0)
    scores = []
    for value in range(1, len(probabilities)):
        one, other = guess == value, truth == value
        scores.append(2 * np.count_nonzero(one & other) / max(np.count_nonzero(one) + np.count_nonzero(other), 1))
    return float(np.mean(scores))


def _as_image(probabilities: Probabilities) -> Image:
    """Classes as grey levels, softly: what A1 compares. Levels as of tissue in T1, where there are as many classes."""
    levels = np.resize(np.array([0.9, 0.6, 0.75, 0.3, 0.15], np.float32), len(probabilities) - 1)
    shares: Sequence[NDArray[np.float32]] = probabilities / np.maximum(probabilities.sum(axis=0, keepdims=True), 1e-6)
    return np.asarray(np.tensordot(levels, np.asarray(shares)[1:], 1), np.float32)
