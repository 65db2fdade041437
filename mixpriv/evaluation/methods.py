"""The methods of a bundle: modes, each as the client has it, and what else can be made of their answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.evaluation import method_id as names
from mixpriv.evaluation.method_id import MethodId
from mixpriv.imaging.resample import Conformed
from mixpriv.key import ClientKey
from mixpriv.protection.draws import KeyedDraws
from mixpriv.protection.mixing import normalised
from mixpriv.protection.modes import (
    Answer,
    Local,
    Mixup,
    Mode,
    Plain,
    Probabilities,
    Protected,
    Secret,
    Shielded,
    one_hot,
)
from mixpriv.protection.reference import ReferenceModel
from mixpriv.protection.rivals import Noisy, Warped
from mixpriv.protection.unmixing import LocalNetwork, Unmixer, linear_unmix

Network = Callable[[NDArray[np.float16]], NDArray[np.uint8]]
"""A network that is not the bundle's S: image (D, H, W) to answer (C-1, D, H, W)."""

Reveal = Callable[[Conformed, Sequence[Answer], Sequence[Protected]], Probabilities]
"""From the answers to requests to the scan's class probabilities, in another way than the mode's."""


@dataclass(frozen=True)
class Method:
    """A mode on trial.

    Attributes
    ----------
    network : answers in place of the bundle's S
    reveal : in place of the mode's own way
    sends : False for what a client does without a server
    """

    id: MethodId
    mode: Mode
    network: Network | None = None
    reveal: Reveal | None = None
    sends: bool = True


class Methods:
    """The methods of one bundle, and what a client with a key would load for them."""

    def __init__(self, bundle: Bundle, key: ClientKey) -> None:
        self.bundle, self.key, self.unmixer = bundle, key, Unmixer.of(bundle)
        self.model = ReferenceModel.of(bundle)
        self.average = self.model.average()

    @cached_property
    def local(self) -> LocalNetwork:
        """The network of mode local, if the bundle has one."""
        return LocalNetwork.of(self.bundle)

    def draws(self, content: bytes) -> KeyedDraws:
        """What can be drawn for a scan with a content digest: the same as a client with this key draws."""
        return KeyedDraws(self.bundle, self.key, content, self.model)

    def all(
        self, weights: Sequence[float], fused: Sequence[int], control: Network | None, shielded: Sequence[float] = ()
    ) -> Iterator[Method]:
        """Every method in the table's order, with fixed weights of the target and numbers of references to average.

        ``shielded``: fixed weights in that mode, beside the ends of the bundle's range.
        """
        yield Method(MethodId(names.NONE), Plain())
        for weight in weights:
            yield Method(MethodId(names.MIXUP, weight), Mixup(weight))
        yield Method(MethodId(names.MIXUP), Mixup())
        for count in fused:
            yield Method(MethodId(names.MIXUP, references=count), Mixup(references=count))
        for fixed in (*weights, None):
            yield Method(MethodId(names.LINEAR, fixed), Mixup(fixed), reveal=linear)
        yield self._blanked(names.BLANKED, Mixup())
        if self.bundle.has_local and not self.bundle.unmixer_alone:
            yield self._local(names.LOCAL)
        if control is not None:
            yield Method(MethodId(names.ALONE), Plain(), control, sends=False)
        how = self.bundle.shielded
        if how is not None:
            for weight in sorted({*shielded, *how.weight_range}, reverse=True):
                yield Method(MethodId(names.SHIELDED, weight), Shielded(weight, how.warp_mm, check=False))
            yield Method(MethodId(names.SHIELDED), Shielded())
            if not self.bundle.unmixer_alone:  # else it is the same as of mixtures that are not warped
                yield self._blanked(names.SHIELDED_BLANKED, Shielded(check=False))

    def _blanked(self, family: str, mode: Mode) -> Method:
        """D without the server: mode local, or with the average anatomy in place of the answer if D needs one."""
        if self.bundle.unmixer_alone:
            return self._local(family)
        return Method(MethodId(family), mode, reveal=self._guessed, sends=False)

    def _local(self, family: str) -> Method:
        def reveal(conformed: Conformed, _answers: Sequence[Answer], _requests: Sequence[Protected]) -> Probabilities:
            return self.local(normalised(conformed))

        return Method(MethodId(family), Local(), reveal=reveal, sends=False)

    def _guessed(
        self, conformed: Conformed, _answers: Sequence[Answer], requests: Sequence[Protected]
    ) -> Probabilities:
        """Unmix what the server would answer to each request if the scan were the average anatomy."""
        (secret,) = (request.secret for request in requests)
        answer = to_answer(secret.weight * self.average + (1 - secret.weight) * self._known(secret))
        return self.unmixer(answer, _labels(secret), secret.weight, normalised(conformed))

    def _known(self, secret: Secret) -> Probabilities:
        return one_hot(_labels(secret), len(self.average))


def evaluation_key(seed: int) -> ClientKey:
    """Nobody's real key, of a seed, so that a table can be made again."""
    return ClientKey(hashlib.sha256(f"evaluation {seed}".encode()).digest())


def rival(family: str, strength: float, network: Network) -> Method:
    """Another method with a network of its own, at a strength (see `MethodId`)."""
    mode: Mode = Warped(strength) if family == names.WARP else Noisy(strength)
    return Method(MethodId(family, strength=strength), mode, network)


def linear(_conformed: Conformed, answers: Sequence[Answer], requests: Sequence[Protected]) -> Probabilities:
    """Unmix linearly: what D has to be better than."""
    secrets = [request.secret for request in requests]
    parts = [linear_unmix(a, _labels(s), s.weight) for a, s in zip(answers, secrets, strict=True)]
    return np.asarray(np.sum(parts, axis=0), np.float32)


def _labels(secret: Secret) -> NDArray[np.uint8]:
    if secret.reference is None:
        raise ValueError("secret: expected a reference in a mixture")
    return secret.reference.labels


def to_answer(probabilities: Probabilities) -> NDArray[np.uint8]:
    """Class probabilities (C, D, H, W) as a server would send them: (C-1, D, H, W) uint8."""
    return np.asarray(np.rint(np.clip(probabilities[1:], 0, 1) * 255), dtype=np.uint8)
