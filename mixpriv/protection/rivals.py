"""Other people's methods, as modes: what mixing is compared with. No client offers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.imaging.resample import Conformed
from mixpriv.protection.draws import KeyedDraws
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.mixing import mix, normalised
from mixpriv.protection.modes import Answer, ClientNetwork, Probabilities, Protected, Secret
from mixpriv.protection.unmixing import unpack_probabilities
from mixpriv.protection.warp import MAX_MEAN_MM


@dataclass(frozen=True)
class Warped:
    """The scan warped by a secret smooth warp of a mean length, mm (Kim et al. 2020, arXiv 2011.12835)."""

    mean_mm: float
    name: str = field(default="warp", init=False)
    count: int = field(default=1, init=False)
    unmixes: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if not 0 < self.mean_mm <= MAX_MEAN_MM:
            raise InputError(f"warp: expected a mean length above 0 and at most {MAX_MEAN_MM:g} mm, got {self.mean_mm}")

    def require(self, bundle: Bundle) -> None:
        """Its network is not the bundle's."""

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """One request."""
        warp = draws.warp(f"warp/{self.mean_mm}", self.mean_mm)
        yield Protected(mix(conformed(), None, 1.0, warp), Secret(warp=warp))

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
    ) -> Probabilities:
        """Warp the probabilities back; beyond the grid all is background."""
        warp = secrets[0].warp
        if warp is None:
            raise ValueError("secrets: expected a warp")
        return kernels.warp(unpack_probabilities(answers[0]), *warp.inverse, fill_background=True)


@dataclass(frozen=True)
class Noisy:
    """The scan in white Gaussian noise of a standard deviation, as a share of the range of intensities."""

    strength: float
    name: str = field(default="noise", init=False)
    count: int = field(default=1, init=False)
    unmixes: bool = field(default=False, init=False)

    def require(self, bundle: Bundle) -> None:
        """Its network is not the bundle's."""

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """One request."""
        stream = Keystream(draws.key.derive(f"noise/{self.strength}", draws.content))
        yield Protected(add_noise(normalised(conformed()), self.strength, stream), Secret())

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
    ) -> Probabilities:
        """Take the answer as it is."""
        return unpack_probabilities(answers[0])


def add_noise(image: NDArray[np.float16], strength: float, stream: Keystream) -> NDArray[np.float16]:
    """White Gaussian noise of standard deviation ``strength`` (the image is in [0, 1]) where the image is not 0."""
    noise = stream.normal(image.shape) * np.float32(strength)
    return np.where(image > 0, image.astype(np.float32) + noise, 0).astype(np.float16)
