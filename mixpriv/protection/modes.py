"""Protection modes: what is sent of a scan, and how its segmentation is found in the answers.

A mode is one object. Client, audit and evaluation all use the same one, so that what is attacked and measured is what
is sent. To add a mode, write a class with what `Mode` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from numbers import Real
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mixpriv import bundle as bundles
from mixpriv import kernels
from mixpriv.bundle import Bundle
from mixpriv.errors import InputError, printable
from mixpriv.imaging.resample import Conformed
from mixpriv.protection.draws import KeyedDraws, Terms
from mixpriv.protection.mixing import mix, normalised
from mixpriv.protection.reference import Reference
from mixpriv.protection.unmixing import LocalNetwork, Unmixer, unpack_probabilities, unwarp
from mixpriv.protection.warp import MAX_MEAN_MM, Warp
from mixpriv.reid.check import MOST_DRAWS, SimilarityCheck

Answer = NDArray[np.uint8]
"""Of a server: (C-1, D, H, W), probabilities x 255 without the background."""

Probabilities = NDArray[np.float32]
"""Of the classes, (C, D, H, W) on any positive scale."""

ClientNetwork = Unmixer | LocalNetwork
"""The client's own that finds the scan's segmentation: D in a mode that mixes, another in one that sends nothing."""

Weights = float | tuple[float, float] | None
"""The scan's weight in a mixture: fixed, drawn from a range, or drawn from the bundle's range."""

MAX_REFERENCES = 20


@dataclass(frozen=True)
class Secret:
    """What the client alone knows of a request, and needs to understand the answer."""

    reference: Reference | None = field(default=None, repr=False)
    weight: float = field(default=1.0, repr=False)
    warp: Warp | None = field(default=None, repr=False)

    def ideal_answer(self, labels: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
        """What a network without mistakes would answer to the request: (C-1, D, H, W), from the scan's true labels."""
        shares = np.float32(self.weight) * one_hot(labels, classes)[1:]
        if self.reference is not None:
            shares += np.float32(1 - self.weight) * one_hot(self.reference.labels, classes)[1:]
        return shares if self.warp is None else kernels.warp(shares, *self.warp.forward)


@dataclass(frozen=True)
class Protected:
    """One request: the ``image`` (M, D, H, W) that is sent, and the secret of it, which is not.

    ``risk``: how many standard deviations more similar the image is to its scan than to other people's; None if nobody
    looked. ``refusal``: why it must not leave this machine; empty if it may.
    """

    image: NDArray[np.float16] = field(repr=False)
    secret: Secret = field(repr=False)
    risk: float | None = None
    refusal: str = ""


class Protection(Protocol):
    """What is done to a scan before anybody else sees it: all that an attack needs to know.

    Attributes
    ----------
    name : what the user calls it
    """

    @property
    def name(self) -> str: ...

    def require(self, bundle: Bundle) -> None:
        """Raise `InputError` if it cannot be used with the networks of a bundle."""

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """Make the requests of a scan one by one.

        ``conformed`` waits for the scan in the bundle's grid: what does not need it is drawn before it is called.
        """


class Mode(Protection, Protocol):
    """A protection from which the client gets a segmentation.

    Attributes
    ----------
    count : number of requests that are sent of one scan, 0 if nothing is sent
    unmixes : whether mixtures are sent: unmixer and reference generator are needed
    """

    @property
    def count(self) -> int: ...
    @property
    def unmixes(self) -> bool: ...

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
    ) -> Probabilities:
        """Find the scan's class probabilities in the answers to its requests."""


@dataclass(frozen=True)
class Plain:
    """Mode ``none``: the scan itself is sent."""

    name: str = field(default="none", init=False)
    count: int = field(default=1, init=False)
    unmixes: bool = field(default=False, init=False)

    def require(self, bundle: Bundle) -> None:
        """Every bundle knows this mode."""

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """One request, nothing drawn."""
        yield Protected(normalised(conformed()), Secret())

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
    ) -> Probabilities:
        """Take the answer as it is."""
        return unpack_probabilities(answers[0], conformed.device)


@dataclass(frozen=True)
class Local:
    """Mode ``local``: nothing is sent, a network of the client segments the scan."""

    name: str = field(default="local", init=False)
    count: int = field(default=0, init=False)
    unmixes: bool = field(default=False, init=False)

    def require(self, bundle: Bundle) -> None:
        """Refuse a bundle that has no network for it."""
        if not bundle.has_local:
            raise InputError(f"bundle {bundle.name} has no mode local: its unmixer needs a server's answer")

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """No request."""
        yield from ()

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
    ) -> Probabilities:
        """Segment the scan."""
        if not isinstance(network, LocalNetwork):
            raise ValueError("network: expected one that needs no answer")
        return network(normalised(conformed))


@dataclass(frozen=True)
class Mixup:
    """Mode ``mixup``: a mixture with a secret reference is sent, or several, whose results are averaged.

    Attributes
    ----------
    weights : of the scan in a mixture. A fixed one is for experiments.
    references : number of mixtures, 1 to 20: more are more accurate and less private
    source : ``generator`` draws references that exist nowhere else; ``bank`` takes the user's own

    Examples
    --------
    >>> Mixup(references=3).count
    3
    >>> Mixup(weights=1.5)
    Traceback (most recent call last):
    ...
    mixpriv.errors.InputError: weight: expected a number between 0 and 1 ..., got 1.5
    """

    weights: Weights = None
    references: int = 1
    source: Literal["generator", "bank"] = "generator"
    name: str = field(default="mixup", init=False)
    unmixes: bool = field(default=True, init=False)

    @property
    def count(self) -> int:
        """One request for each reference."""
        return self.references

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _checked_weights(self.weights))
        if type(self.references) is not int or not 1 <= self.references <= MAX_REFERENCES:
            raise InputError(f"references: expected 1 to {MAX_REFERENCES}, got {self.references!r}")
        if self.source not in ("generator", "bank"):
            raise InputError(f"source of references: expected generator or bank, got {self.source!r}")

    def require(self, bundle: Bundle) -> None:
        """Every bundle knows this mode."""

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """Mix the scan with each reference in turn, by a weight of its own."""
        weights = _range(self.weights, draws.terms.weight_range)
        purpose = _purpose(self.name, draws.terms, weights)
        own = draws.lent(f"bank/{purpose}", conformed(), self.references) if self.source == "bank" else None
        for index in range(self.references):
            reference = draws.reference(purpose, index) if own is None else own[index]
            weight = _weight(weights, purpose, draws, index)
            yield Protected(mix(conformed(), reference, weight), Secret(reference, weight))

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
    ) -> Probabilities:
        """Unmix every answer and add up the probabilities."""
        return unmix_all(conformed, answers, secrets, network)


@dataclass(frozen=True)
class Shielded:
    """Mode ``shielded``: one mixture with little of the scan, warped by a secret smooth warp.

    Attributes
    ----------
    weights : of the scan, the bundle's if not given
    warp_mm : mean length of the displacement, the bundle's if not given
    check : look whether the mixture could be linked to its scan, and draw it again if so

    Examples
    --------
    >>> from mixpriv.bundle import load_bundle
    >>> Shielded().require(load_bundle("brain-t1"))
    >>> Shielded(weights=(0.05, 0.1), warp_mm=8).warp_mm
    8.0
    """

    weights: Weights = None
    warp_mm: float | None = None
    check: bool = True
    name: str = field(default="shielded", init=False)
    count: int = field(default=1, init=False)
    unmixes: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _checked_weights(self.weights))
        if self.warp_mm is None:
            return
        if not isinstance(self.warp_mm, Real) or not 0 < self.warp_mm <= MAX_MEAN_MM:
            raise InputError(
                f"warp: expected a mean length above 0 and at most {MAX_MEAN_MM:g} mm, got {self.warp_mm!r}"
            )
        object.__setattr__(self, "warp_mm", float(self.warp_mm))

    def require(self, bundle: Bundle) -> None:
        """Refuse a bundle whose networks were not trained for it."""
        if bundle.shielded is None and (self.weights is None or self.warp_mm is None):
            raise InputError(f"bundle {bundle.name} has no mode shielded: expected mixup or none")

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """One request. It is drawn again while it is too similar to its scan; the last draw says why it is refused."""
        weights, warp_mm, impostors = self._terms(draws.terms.shielded)
        purpose = f"{_purpose(self.name, draws.terms, weights)}/{warp_mm} mm"
        weight = _weight(weights, purpose, draws, 0)
        reference, warp = draws.reference(purpose), draws.warp(purpose, warp_mm)
        _ = warp.inverse  # found now, while the scan is still being prepared
        if impostors is None:
            yield Protected(mix(conformed(), reference, weight, warp), Secret(reference, weight, warp))
            return
        scan = conformed()
        with ThreadPoolExecutor(1) as other:
            check = other.submit(lambda: SimilarityCheck.of(normalised(scan), draws.terms.spacing_mm))
            image = mix(scan, reference, weight, warp)
            risk = check.result().risk(image, impostors)
        draw = 1
        while risk > impostors.limit and draw < MOST_DRAWS:
            reference, warp = draws.reference(purpose, draw), draws.warp(purpose, warp_mm, draw)
            image = mix(scan, reference, weight, warp)
            risk = check.result().risk(image, impostors)
            draw += 1
        refusal = (
            f"scan: {MOST_DRAWS} mixtures were drawn and each is too much like it (risk {risk:.1f}, at most "
            f"{impostors.limit:g}): not sent in mode shielded"
        )
        allowed = risk <= impostors.limit
        yield Protected(image, Secret(reference, weight, warp), risk, "" if allowed else refusal)

    def _terms(
        self, of_bundle: bundles.Shielded | None
    ) -> tuple[float | tuple[float, float], float, bundles.Impostors | None]:
        """Weights, mean length of the warp, and what other people's scans are like if that is to be looked at."""
        if of_bundle is None:
            if self.weights is None or self.warp_mm is None:
                raise InputError("mode shielded: expected a bundle that knows it, or weights and a warp")
            return self.weights, self.warp_mm, None
        impostors = of_bundle.impostors if self.check else None
        return _range(self.weights, of_bundle.weight_range), self.warp_mm or of_bundle.warp_mm, impostors

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
    ) -> Probabilities:
        """Warp the answer back and unmix it."""
        return unmix_all(conformed, answers, secrets, network)


def unmix_all(
    conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
) -> Probabilities:
    """Unmix answers to mixtures, each warped back if it was warped; the sum of the probabilities (C, D, H, W)."""
    scan = normalised(conformed)
    total: Probabilities | None = None
    for answer, secret in zip(answers, secrets, strict=True):
        if secret.reference is None or not isinstance(network, Unmixer):
            raise ValueError("secrets, network: expected a reference in each and an unmixer")
        straight = answer if secret.warp is None else unwarp(answer, secret.warp)
        total = network(straight, secret.reference.labels, secret.weight, scan, conformed.device, total)
    if total is None:
        raise ValueError("answers: expected at least one")
    return total


def one_hot(labels: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
    """Indicators of all classes, background first, (C, D, H, W).

    Examples
    --------
    >>> one_hot(np.array([[[0, 2]]], np.uint8), 3)[:, 0, 0].tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    return np.asarray(np.stack([labels == value for value in range(classes)]), np.float32)


def _checked_weights(weights: Weights) -> Weights:
    """The weights as Python's own numbers: their text is a part of the seeds, see `_purpose`."""
    if weights is None:
        return None
    ends = tuple(weights) if isinstance(weights, tuple | list) else (weights,)
    if len(ends) > 2 or not all(isinstance(end, Real) and 0 < end < 1 for end in ends) or list(ends) != sorted(ends):
        raise InputError(f"weight: expected a number between 0 and 1 (or two, the lower first), got {weights!r}")
    return (float(ends[0]), float(ends[1])) if len(ends) == 2 else float(ends[0])


def _range(weights: Weights, of_bundle: tuple[float, float]) -> float | tuple[float, float]:
    return of_bundle if weights is None else weights


def _weight(weights: float | tuple[float, float], purpose: str, draws: KeyedDraws, index: int) -> float:
    return draws.weight(purpose, weights, index) if isinstance(weights, tuple) else weights


def _purpose(name: str, terms: Terms, weights: float | tuple[float, float]) -> str:
    """What the draws of a mode are for: a part of the seeds, so it must never be written in another way."""
    return f"{name}/{terms.fingerprint}/{weights}"


NAMES = ("local", "shielded", "mixup", "none")


def named(
    name: str,
    *,
    references: int = 1,
    source: Literal["generator", "bank"] = "generator",
    weights: Weights = None,
) -> Mode:
    """Make a mode of its name and of what a user may say beside it.

    Raises
    ------
    InputError
        no such mode, or it knows no references or weight.

    Examples
    --------
    >>> named("mixup", references=3).count
    3
    """
    if name == "mixup":
        return Mixup(weights, references, source)
    asked = references != 1 or source != "generator"
    if name == "shielded":
        if asked:
            raise InputError("mode shielded sends one request for a scan: expected no number of references, no bank")
        return Shielded(weights)
    if name not in NAMES:
        raise InputError(f"mode: expected one of {', '.join(NAMES)}, got {printable(name, 40)!r}")
    if asked or weights is not None:
        what = "sends the brain itself" if name == "none" else "sends nothing"
        raise InputError(f"mode {name} {what}: expected no references and no weight")
    return Plain() if name == "none" else Local()
