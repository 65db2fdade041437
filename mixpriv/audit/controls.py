"""The two controls of an audit: scans that everybody links, and noise that nobody links."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.imaging.resample import Conformed
from mixpriv.key import ClientKey
from mixpriv.protection.draws import KeyedDraws
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.modes import Plain, Protected, Protection, Secret

NONE = Plain()


@dataclass(frozen=True)
class Blind:
    """Noise in place of what another mode would send: an attack that finds anything here is broken."""

    inner: Protection = NONE
    name: str = field(default="blind", init=False)

    def require(self, bundle: Bundle) -> None:
        """Every bundle will do."""

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """Noise of the same shape, with the secrets of the inner mode."""
        for request in self.inner.requests(conformed, draws):
            secret = request.secret
            unheard = NoiseSecret(secret.reference, secret.weight, secret.warp, draws.key)
            yield replace(request, image=noise(request.image, draws.key), secret=unheard)


@dataclass(frozen=True)
class NoiseSecret(Secret):
    """The secret of a request that shows nothing of it: the answer is noise as well."""

    key: ClientKey | None = field(default=None, repr=False)

    def ideal_answer(self, labels: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
        """Noise around equal shares."""
        if self.key is None:
            raise ValueError("key: expected one")
        stream = Keystream(self.key.derive("audit/blind/answer", labels.tobytes()))
        shape = (classes - 1, *labels.shape)
        return np.asarray(np.clip(0.5 / (classes - 1) * (1 + 0.2 * stream.normal(shape)), 0, 1), np.float32)


BLIND = Blind()


def noise(image: NDArray[np.float16], key: ClientKey) -> NDArray[np.float16]:
    """White noise of an image's shape; another image or key gives other noise."""
    stream = Keystream(key.derive("audit/blind", hashlib.sha256(image.tobytes()).digest()))
    return np.asarray(0.5 * np.maximum(0, 1 + 0.2 * stream.normal(image.shape)), image.dtype)
