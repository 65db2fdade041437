"""Modes that an audit or an evaluation is asked for by name."""

from __future__ import annotations

from mixpriv.audit.controls import BLIND
from mixpriv.audit.extensions import protection, protections
from mixpriv.errors import InputError
from mixpriv.protection.modes import Mixup, Plain, Protection, Shielded
from mixpriv.protection.rivals import Warped


def parse_mode(text: str) -> Protection:
    """Read a mode's name, or that of a protection of an installed package.

    Modes are ``none``, ``blind``, ``shielded``, ``mixup``, ``mixup=WEIGHT``, ``warp=MM`` or ``warp=MM+mixup=WEIGHT``.

    Raises
    ------
    InputError
        another name or number.

    Examples
    --------
    >>> parse_mode("warp=8+mixup=0.3").warp_mm
    8.0
    """
    known: dict[str, Protection] = {"none": Plain(), "blind": BLIND, "shielded": Shielded(), "mixup": Mixup()}
    if text in known:
        return known[text]
    installed = protection(text)
    if installed is not None:
        return installed
    try:
        parts = {name: float(value) for name, _, value in (part.partition("=") for part in text.split("+"))}
        weight, warp_mm = parts.pop("mixup", None), parts.pop("warp", None)
        if not parts and warp_mm is None:
            return Mixup(weight)
        if not parts and warp_mm is not None:
            rival = Warped(warp_mm)  # which checks the length
            return rival if weight is None else Shielded(weight, warp_mm, check=False)
    except (ValueError, InputError):
        pass
    raise InputError(
        f"mode: expected none, blind, shielded, mixup, mixup=WEIGHT, warp=MM or a sum, "
        f"or of installed packages {', '.join(protections()) or 'none'}; got {text!r}"
    )
