"""What a server sees of a scan in a mode under a client key, beside what only the client knows of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.audit.people import Visit
from mixpriv.bundle import Shielded
from mixpriv.errors import InputError
from mixpriv.key import ClientKey
from mixpriv.protection.keystream import Stream
from mixpriv.protection.mixing import draw_weight, mix
from mixpriv.protection.reference import Reference, ReferenceModel, draw_reference
from mixpriv.protection.warp import Warp, draw_warp
from mixpriv.wire.transport import Segmenter


@dataclass(frozen=True)
class View:
    """One request as the server holds it: image (D, H, W) float16 in; answer (C-1, D, H, W) uint8 out, or not known."""

    image: NDArray[np.float16] = field(repr=False)
    answer: NDArray[np.uint8] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Secret:
    """What the client keeps of a request. Attacks learn from their own requests' secrets, never from the victim's."""

    weight: float = 1.0
    reference: Reference | None = field(default=None, repr=False)
    warp: Warp | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Sent:
    """A request of a visit."""

    visit: Visit
    view: View
    secret: Secret = field(repr=False)


T = TypeVar("T", np.float16, np.uint8)
Server = Callable[[NDArray[np.float16], Visit, Secret], NDArray[np.uint8]]
"""Image sent to answer (C-1, D, H, W). A simulated server may use the truth to be better than any network."""


@dataclass(frozen=True)
class World:
    """Everything public: the grid, the classes, the generator of references, and what the server would answer."""

    spacing_mm: float
    classes: int
    weight_range: tuple[float, float]
    model: ReferenceModel = field(repr=False)
    server: Server = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid (D, H, W)."""
        return self.model.grid_shape


@dataclass(frozen=True)
class Mode:
    """A way to protect a scan: mixed with a reference, bent by a warp, both, or neither.

    ``weight``: the target's share, None if it is drawn from ``weight_range``, or from that of the world's clients.
    ``blind``: noise in place of the scan, on which every attack must fail.
    """

    name: str
    mixes: bool = False
    weight: float | None = None
    warp_mm: float = 0.0
    blind: bool = False
    weight_range: tuple[float, float] | None = None

    def draw_weight(self, seed: bytes, world: World) -> float:
        """The target's share in one mixture, from a 32-byte seed."""
        return self.weight or draw_weight(seed, self.weight_range or world.weight_range)

    def mean_weight(self, world: World) -> float:
        """The target's share on average: all that an attacker knows of it."""
        return self.weight or sum(self.weight_range or world.weight_range) / 2 if self.mixes else 1.0

    def protect(self, visit: Visit, world: World, key: ClientKey, index: int = 0) -> tuple[NDArray[np.float16], Secret]:
        """What is sent of a visit, and the secrets of it; ``index`` counts the requests of one scan."""
        reference, weight = None, 1.0
        if self.mixes:
            purpose = f"audit/{self.name}"
            reference = draw_reference(world.model, Stream(key.derive(purpose, visit.content, index)))
            weight = self.draw_weight(key.derive(f"{purpose}/weight", visit.content, index), world)
        image, secret = self.apply(visit, reference, weight, self.draw_warp(visit, world, key, index))
        return (noise(image, key) if self.blind else image), secret

    def apply(
        self, visit: Visit, reference: Reference | None, weight: float, warp: Warp | None
    ) -> tuple[NDArray[np.float16], Secret]:
        """Mix, then bend, with given secrets."""
        return mix(visit.target, reference, weight, warp), Secret(weight, reference, warp)

    def draw_warp(self, visit: Visit, world: World, key: ClientKey, index: int = 0) -> Warp | None:
        """The warp of a request, none in a mode without."""
        if not self.warp_mm:
            return None
        stream = Stream(key.derive(f"audit/{self.name}/warp", visit.content, index))
        return draw_warp(stream, world.shape, self.warp_mm, world.spacing_mm)

    def send(self, visit: Visit, world: World, key: ClientKey, index: int = 0, *, answer: bool = False) -> Sent:
        """Make a request; the server is asked only if the answer is wanted."""
        image, secret = self.protect(visit, world, key, index)
        said = world.server(image, visit, secret) if answer else None
        if said is not None and self.blind:
            said = noise(said, key, 255 / 2 / len(said))
        return Sent(visit, View(image, said), secret)


def noise(image: NDArray[T], key: ClientKey, middle: float = 0.5) -> NDArray[T]:
    """White noise of an image's shape and type; another image or key gives other noise."""
    stream = Stream(key.derive("audit/blind", hashlib.sha256(image.tobytes()).digest()))
    return np.asarray(middle * np.maximum(0, 1 + 0.2 * stream.normal(image.shape)), image.dtype)


NONE, BLIND = Mode("none"), Mode("blind", blind=True)


def parse_mode(text: str, shielded: Shielded | None = None) -> Mode:
    """Read a mode's name: ``none``, ``blind``, ``shielded``, ``mixup``, ``mixup=WEIGHT``, ``warp=MM``, sums by ``+``.

    ``shielded``: what a bundle says of the mode of that name.

    Raises
    ------
    InputError
        another name or number.

    Examples
    --------
    >>> parse_mode("warp=8+mixup=0.3").warp_mm
    8.0
    """
    if text in ("none", "blind"):
        return NONE if text == "none" else BLIND
    if text == "shielded" and shielded is not None:
        return Mode(text, mixes=True, warp_mm=shielded.warp_mm, weight_range=shielded.weight_range)
    mixes, weight, warp_mm = False, None, 0.0
    for part in text.split("+"):
        name, _, number = part.partition("=")
        try:
            value = float(number) if number else None
        except ValueError:
            value = -1.0
        if name == "mixup" and (value is None or 0 < value < 1):
            mixes, weight = True, value
        elif name == "warp" and value is not None and 0 < value <= 8:
            warp_mm = value
        else:
            raise InputError(
                f"mode: expected none, blind, shielded, mixup, mixup=WEIGHT, warp=MM or a sum, got {text!r}"
            )
    return Mode(text, mixes, weight, warp_mm)


def client_key(number: int) -> ClientKey:
    """Key of client number ``number`` of an audit: nobody's real key, the same in every run."""
    return ClientKey(hashlib.sha256(f"audit {number}".encode()).digest())


def attacker_key(number: int) -> ClientKey:
    """A key that the attacker made up to practise with."""
    return ClientKey(hashlib.sha256(f"attacker {number}".encode()).digest())


def ideal_answer(classes: int) -> Server:
    """A server whose network makes no mistake: the mixture of the true label maps, bent as the image was."""

    def answer(_image: NDArray[np.float16], visit: Visit, secret: Secret) -> NDArray[np.uint8]:
        if visit.labels is None:
            raise InputError("ideal server: expected a visit with labels")
        shares = secret.weight * one_hot(visit.labels, classes)
        if secret.reference is not None:
            shares += (1 - secret.weight) * one_hot(secret.reference.labels, classes)
        if secret.warp is not None:
            shares = kernels.warp(shares, *secret.warp.forward)
        return np.asarray(np.rint(shares * 255), np.uint8)

    return answer


def served(segmenter: Segmenter) -> Server:
    """A server with a real network."""

    def answer(image: NDArray[np.float16], _visit: Visit, _secret: Secret) -> NDArray[np.uint8]:
        return np.asarray(segmenter.segment(image[None, None])[0], np.uint8)

    return answer


def one_hot(labels: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
    """Foreground indicators (C-1, D, H, W)."""
    return np.asarray(np.stack([labels == value for value in range(1, classes)]), np.float32)


def send_all(
    mode: Mode, world: World, visits: Sequence[Visit], keys: Sequence[ClientKey], *, answer: bool = False
) -> list[Sent]:
    """One request of every visit under every key."""
    return [mode.send(visit, world, key, answer=answer) for key in keys for visit in visits]
