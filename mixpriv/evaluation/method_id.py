"""What a method is called: a value in the code, a line of text in tables and score files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mixpriv.errors import InputError

NONE, MIXUP, SHIELDED, LOCAL, LINEAR = "none", "mixup", "shielded", "local", "linear unmixing"
WARP, NOISE = "warp", "noise"
BLANKED, ALONE = "D, answer blanked", "network of D's size on the scan"
"""What a client could do without the server."""
SHIELDED_BLANKED = "D, answer blanked, shielded"

UNMIXED_BY_D = (MIXUP, SHIELDED)
WEIGHTED = (*UNMIXED_BY_D, LINEAR)
RIVALS = (WARP, NOISE)

_UNIT = {WARP: " mm", NOISE: ""}
_NUMBER = r"\d*\.?\d+(?:e-?\d+)?"
_FORMS = (
    rf"(?P<family>{'|'.join(WEIGHTED)}), a (?:= (?P<weight>{_NUMBER})|drawn)(?:, K = (?P<references>[1-9]\d*))?",
    rf"(?P<family>{WARP}), (?P<strength>{_NUMBER}) mm",
    rf"(?P<family>{NOISE}), (?P<strength>{_NUMBER})",
    rf"(?P<family>{'|'.join((SHIELDED_BLANKED, BLANKED, ALONE))})",
    rf"(?P<family>(?!(?:{'|'.join((*WEIGHTED, *RIVALS))})$)[a-z][a-z0-9-]*)",  # none, and modes of others' making
)


@dataclass(frozen=True)
class MethodId:
    """Which method: what is sent, and what becomes of the answer.

    Attributes
    ----------
    family : one of this module's names, or that of a mode
    weight : of the scan in a mixture, if it is fixed; None where it is drawn or nothing is mixed
    references : number of mixtures whose results are averaged
    strength : of a rival: mean length of the warp in mm, or standard deviation of the noise
    variant : whose networks or references these are, if not the bundle's

    Examples
    --------
    >>> str(MethodId("mixup", references=3))
    'mixup, a drawn, K = 3'
    >>> MethodId.parse("small: shielded, a = 0.2")
    MethodId(family='shielded', weight=0.2, references=1, strength=None, variant='small')
    """

    family: str
    weight: float | None = None
    references: int = 1
    strength: float | None = None
    variant: str = ""

    @property
    def mixes(self) -> bool:
        """Whether mixtures are sent and unmixed by D."""
        return self.family in UNMIXED_BY_D

    @property
    def is_rival(self) -> bool:
        """Whether it is a method to compare mixing with."""
        return self.family in RIVALS

    @property
    def draws_weight(self) -> bool:
        """Whether the weight is another in every mixture."""
        return self.family in WEIGHTED and self.weight is None

    def __str__(self) -> str:
        text = f"{self.variant}: {self.family}" if self.variant else self.family
        if self.family in WEIGHTED:
            text += ", a drawn" if self.weight is None else f", a = {self.weight}"
        if self.references > 1:
            text += f", K = {self.references}"
        return text if self.strength is None else f"{text}, {self.strength:g}{_UNIT.get(self.family, '')}"

    @staticmethod
    def parse(text: str) -> MethodId:
        """Read what `str` writes.

        Raises
        ------
        InputError
            it is nothing of that form.
        """
        variant, _, said = text.rpartition(": ")
        for form in _FORMS:
            found = re.fullmatch(form, said)
            if found:
                parts = found.groupdict()
                weight, strength = (float(n) if (n := parts.get(key)) else None for key in ("weight", "strength"))
                return MethodId(parts["family"], weight, int(parts.get("references") or 1), strength, variant)
        raise InputError(f"method: expected one as evaluate writes it, got {text!r}")
