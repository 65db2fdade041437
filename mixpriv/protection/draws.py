"""What is drawn for a request: reference, weight and warp, from the client's key and the scan's content.

The same scan, key, network and mode give the same draws, so a scan that is sent again is sent as the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mixpriv.bundle import Shielded
from mixpriv.errors import InputError
from mixpriv.imaging.resample import Conformed
from mixpriv.key import ClientKey
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.mixing import draw_weight
from mixpriv.protection.reference import Reference, ReferenceModel, draw_reference
from mixpriv.protection.warp import Warp, draw_warp

Lend = Callable[[str, Conformed, int], Sequence[Reference]]
"""Gives a number of references of the user's own for a purpose and a scan; each is used for one scan only."""


class Terms(Protocol):
    """What a bundle says of protection: its network, its grid, and how it was trained to be asked."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def grid_shape(self) -> tuple[int, int, int]: ...
    @property
    def spacing_mm(self) -> float: ...
    @property
    def weight_range(self) -> tuple[float, float]: ...
    @property
    def shielded(self) -> Shielded | None: ...


@dataclass(frozen=True)
class KeyedDraws:
    """All that can be drawn for one scan under one key.

    ``purpose`` names mode, network and weights. Another purpose gives other draws: two mixtures of one scan with the
    same reference and other weights would be two equations with two unknowns.
    """

    terms: Terms
    key: ClientKey
    content: bytes = field(repr=False)
    model: ReferenceModel | None = field(repr=False)
    lend: Lend | None = field(default=None, repr=False)

    def reference(self, purpose: str, index: int = 0) -> Reference:
        """Draw reference number ``index``."""
        if self.model is None:
            raise InputError("reference generator: expected it to be loaded in a mode that mixes")
        return draw_reference(self.model, self._stream("reference", purpose, index))

    def weight(self, purpose: str, weight_range: tuple[float, float], index: int = 0) -> float:
        """Draw the scan's weight in mixture number ``index``."""
        return draw_weight(self.key.derive(f"weight/{purpose}", self.content, index), weight_range)

    def warp(self, purpose: str, mean_mm: float, index: int = 0) -> Warp:
        """Draw warp number ``index``, of a mean length."""
        stream = self._stream("warp", purpose, index)
        return draw_warp(stream, self.terms.grid_shape, mean_mm, self.terms.spacing_mm)

    def lent(self, purpose: str, scan: Conformed, count: int) -> Sequence[Reference]:
        """Take references of the user's own."""
        if self.lend is None:
            raise InputError("reference bank: expected one to take references from, got none")
        return self.lend(purpose, scan, count)

    def _stream(self, what: str, purpose: str, index: int) -> Keystream:
        return Keystream(self.key.derive(f"{what}/{purpose}", self.content, index))
