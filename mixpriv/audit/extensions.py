"""What installed packages add: attacks and protections, by entry points. docs/extending.md has one of each."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

from mixpriv.errors import InputError, printable
from mixpriv.protection.modes import Protection

ATTACKS = "mixpriv.attacks"
"""Group of entry points: modules whose functions register themselves by `mixpriv.audit.registry.attack`."""

PROTECTIONS = "mixpriv.protections"
"""Group of entry points: objects or classes with what `mixpriv.protection.modes.Protection` names."""


def load_attacks() -> None:
    """Import the attacks of all installed packages.

    Raises
    ------
    InputError
        one cannot be imported.
    """
    for point in importlib.metadata.entry_points(group=ATTACKS):
        _loaded(point)


def protections() -> list[str]:
    """Names of the protections of all installed packages."""
    return sorted(point.name for point in importlib.metadata.entry_points(group=PROTECTIONS))


def protection(name: str) -> Protection | None:
    """The protection that an installed package has under a name; None if there is none.

    Raises
    ------
    InputError
        it cannot be imported, or is no protection.
    """
    for point in importlib.metadata.entry_points(group=PROTECTIONS, name=name):
        found = _loaded(point)
        made: Protection = _made(point, found) if isinstance(found, type) else found
        missing = [part for part in ("name", "require", "requests") if not hasattr(made, part)]
        if missing:
            raise InputError(f"protection {name}: expected an object with {', '.join(missing)}")
        return made
    return None


def _loaded(point: importlib.metadata.EntryPoint) -> Any:
    return _made(point, point.load)


def _made(point: importlib.metadata.EntryPoint, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # whatever somebody else's code does
        said = printable(f"{type(error).__name__}: {error}", 200)
        raise InputError(f"{point.group} {point.name}: cannot be loaded ({said})") from None
