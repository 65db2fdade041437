"""Requests of simulated clients: what a server sees of a scan under a key, beside what only the client knows of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mixpriv.audit.cohort import Visit
from mixpriv.bundle import Shielded
from mixpriv.errors import InputError
from mixpriv.key import ClientKey
from mixpriv.protection.draws import KeyedDraws, Terms
from mixpriv.protection.modes import Protection, Secret
from mixpriv.protection.reference import Reference, ReferenceModel
from mixpriv.wire.transport import Segmenter


@dataclass(frozen=True)
class Sent:
    """A request of a visit as the server holds it, and the secret of it.

    ``image``: (D, H, W) float16. ``answer``: (C-1, D, H, W) uint8, None if nobody asked. Attacks learn from the secrets
    of the attacker's own requests, never from the victim's.
    """

    visit: Visit
    image: NDArray[np.float16] = field(repr=False)
    secret: Secret = field(repr=False)
    answer: NDArray[np.uint8] | None = field(default=None, repr=False)


Server = Callable[[NDArray[np.float16], Visit, Secret], NDArray[np.uint8]]
"""Image sent to answer (C-1, D, H, W). A simulated server may use the truth to be better than any network."""


@dataclass(frozen=True)
class PublicTerms:
    """What everybody knows of a bundle; see `mixpriv.protection.draws.Terms`."""

    fingerprint: str
    grid_shape: tuple[int, int, int]
    spacing_mm: float
    weight_range: tuple[float, float]
    shielded: Shielded | None = None


@dataclass(frozen=True)
class Environment:
    """Everything public: the bundle's terms, the generator of references, and what the server would answer."""

    terms: Terms
    classes: int
    model: ReferenceModel = field(repr=False)
    server: Server = field(repr=False)

    @property
    def spacing_mm(self) -> float:
        """Of the grid."""
        return self.terms.spacing_mm

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid (D, H, W)."""
        return self.terms.grid_shape


@dataclass(frozen=True)
class ReusedReference(KeyedDraws):
    """Draws of a client that takes one reference for every scan, which no client does."""

    reused: Reference | None = field(default=None, repr=False)

    def reference(self, purpose: str, index: int = 0) -> Reference:
        """Give the one reference, whatever it is for."""
        if self.reused is None:
            raise ValueError("reused: expected a reference")
        return self.reused


def send(mode: Protection, visit: Visit, environment: Environment, key: ClientKey, *, answer: bool = False) -> Sent:
    """Make the first request of a visit, as the client makes it; the server is asked if the answer is wanted."""
    return request(mode, visit, environment, KeyedDraws(environment.terms, key, visit.content, environment.model),
                   answer=answer)  # fmt: skip


def request(
    mode: Protection, visit: Visit, environment: Environment, draws: KeyedDraws, *, answer: bool = False
) -> Sent:
    """Make the first request of a visit with given draws."""
    (protected,) = islice(mode.requests(lambda: visit.conformed, draws), 1)
    image = protected.image[0]
    said = environment.server(image, visit, protected.secret) if answer else None
    return Sent(visit, image, protected.secret, said)


def several(mode: Protection, visit: Visit, environment: Environment, key: ClientKey, count: int) -> list[Sent]:
    """Requests of one scan by several installations, each with a key of its own: the most that a server can gather."""
    keys = [key, *(ClientKey(key.derive("audit/installation", b"", number)) for number in range(1, count))]
    return [send(mode, visit, environment, one) for one in keys]


def client_key(number: int) -> ClientKey:
    """Key of client number ``number`` of an audit: nobody's real key, the same in every run."""
    return ClientKey(hashlib.sha256(f"audit {number}".encode()).digest())


def attacker_key(number: int) -> ClientKey:
    """A key that the attacker made up to practise with."""
    return ClientKey(hashlib.sha256(f"attacker {number}".encode()).digest())


def ideal_answer(classes: int) -> Server:
    """A server whose network makes no mistake: the mixture of the true label maps, warped as the image was."""

    def answer(_image: NDArray[np.float16], visit: Visit, secret: Secret) -> NDArray[np.uint8]:
        if visit.labels is None:
            raise InputError("ideal server: expected a visit with labels")
        return np.asarray(np.rint(secret.ideal_answer(visit.labels, classes) * 255), np.uint8)

    return answer


def served(segmenter: Segmenter) -> Server:
    """A server with a real network."""

    def answer(image: NDArray[np.float16], _visit: Visit, _secret: Secret) -> NDArray[np.uint8]:
        return np.asarray(segmenter.segment(image[None, None])[0], np.uint8)

    return answer
