"""A7: the target's segmentation without the key, from the answer and public knowledge; and linkage by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mixpriv.audit.context import Context
from mixpriv.audit.findings import Finding, Outcome, finding
from mixpriv.audit.linkage import Linker
from mixpriv.audit.registry import attack
from mixpriv.audit.simulation import Sent, attacker_key
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.modes import one_hot
from mixpriv.protection.reference import draw_reference
from mixpriv.reid.features import Image

Probabilities = NDArray[np.float32]
"""(C, D, H, W)."""

_RIDGE = 1e-3


@attack("A7", "Segmentation of the scan without the key, and linkage by it")
def run(context: Context) -> Outcome:
    """Segment every target by every guess and take the best; nothing to do without known labels."""
    if any(visit.labels is None for visit in (*context.few, *context.cohort.known)):
        return Outcome([])
    prior = context.environment.model.average()
    subjects = [visit.subject for _, visit in context.tried]
    known = [_dice(prior, sent) for sent in context.answered]
    guesses: dict[str, Callable[[Sent], Probabilities]] = {
        "the answer as it is": _answer,
        "linear, average reference": lambda sent: _linear(sent, prior, context.mean_weight),
        "linear, another reference": lambda sent: _linear(sent, _other_reference(context), context.mean_weight),
        "learned": _learn(context, prior),
    }
    found: list[Finding] = []
    images: dict[str, list[Image]] = {}
    for name, guess in guesses.items():
        guessed = [guess(sent) for sent in context.answered]
        over = [_dice(one, sent) - base for one, sent, base in zip(guessed, context.answered, known, strict=True)]
        figure = f"Dice over atlas prior, {name}"
        found.append(finding("A7", context.name, figure, over, subjects, 0.0, against="template"))
        images[name] = [_as_image(one) for one in guessed]
    best = max(images, key=lambda name: next(f.value for f in found if f.figure.endswith(name)))
    public, gallery = context.environment, context.cohort.gallery
    shapes = [_as_image(one_hot(visit.labels, public.classes)) for visit in gallery if visit.labels is not None]
    if len(shapes) == len(gallery):
        linker = Linker.of(shapes, public.spacing_mm)
        found += context.linked("A7", images[best], subjects, f", labels by {best}", linker)
    return Outcome(found, {f"A7 labels, {best}": images[best][0]})


def _answer(sent: Sent) -> Probabilities:
    assert sent.answer is not None  # noqa: S101 - these requests were answered
    known = sent.answer.astype(np.float32) / 255
    return np.concatenate([np.maximum(0, 1 - known.sum(axis=0, keepdims=True)), known])


def _linear(sent: Sent, reference: Probabilities, weight: float) -> Probabilities:
    return np.maximum(0, (_answer(sent) - (1 - weight) * reference) / weight)


def _other_reference(context: Context) -> Probabilities:
    reference = draw_reference(context.environment.model, Keystream(attacker_key(0).derive("another")))
    return one_hot(reference.labels, context.environment.classes)


def _features(sent: Sent, prior: Probabilities) -> NDArray[np.float64]:
    """(features, voxels): the answer, the atlas and the image, and how they go together."""
    answer, image = _answer(sent), sent.image.astype(np.float32)[None]
    parts = [answer, prior, answer * prior, image, image**2, image * answer, np.ones_like(image)]
    return np.asarray(np.concatenate(parts).reshape(sum(len(p) for p in parts), -1), np.float64)


def _learn(context: Context, prior: Probabilities) -> Callable[[Sent], Probabilities]:
    """Ridge regression from answer, atlas and image to labels, on the attacker's own requests.

    Its sums are made request by request: all voxels of all requests together do not fit into memory.
    """
    classes = context.environment.classes
    gram: NDArray[np.float64] | float = 0.0
    cross: NDArray[np.float64] | float = 0.0
    for sent in context.practice(context.cohort.known[:6], 1, answer=True):
        assert sent.visit.labels is not None  # noqa: S101 - checked at the beginning
        x, y = _features(sent, prior), one_hot(sent.visit.labels, classes).reshape(classes, -1)
        gram, cross = gram + x @ x.T, cross + x @ y.T
    gram = np.asarray(gram)
    weights = np.linalg.solve(gram + _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), cross)

    def guess(sent: Sent) -> Probabilities:
        said = weights.T @ _features(sent, prior)
        return np.asarray(said.reshape(classes, *sent.image.shape), np.float32)

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
