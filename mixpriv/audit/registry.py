"""Which attacks there are. An attack registers itself: a function in a file of `mixpriv.audit.attacks`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mixpriv.audit import attacks as package
from mixpriv.audit.context import Context
from mixpriv.audit.extensions import load_attacks
from mixpriv.audit.findings import Outcome
from mixpriv.errors import InputError

Run = Callable[[Context], Outcome]

SINGLING_OUT, LINKABILITY, INFERENCE = "singling out", "linkability", "inference"
"""The risks that anonymisation must rule out, by the Article 29 Working Party's Opinion 05/2014."""

_EXTRA = {"jinja2": "jinja2", "sklearn": "scikit-learn"}
"""Packages of the extra ``[audit]``, by the name they are imported by."""


def require_extra() -> None:
    """Raise `InputError` if a package of the extra ``[audit]`` is missing."""
    missing = [name for module, name in _EXTRA.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(f"mixpriv audit needs {' and '.join(missing)}: pip install 'mixpriv[audit]'")


@dataclass(frozen=True)
class Attack:
    """An attack: its number, what it does in a few words, and what it needs beyond the extra ``[audit]``.

    ``risk``: which one figures are about that do not tell by their names (``rank-1``, ``AUC``, ``over template``).
    """

    number: str
    title: str
    run: Run = field(repr=False)
    needs: tuple[str, ...] = ()
    risk: str | None = None

    def require(self) -> None:
        """Raise `InputError` if a package is missing."""
        for name in self.needs:
            if importlib.util.find_spec(name) is None:
                raise InputError(f"attack {self.number} needs {name}: install the extra [train], or leave it out")


_registered: dict[str, Attack] = {}


def attack(number: str, title: str, *, needs: tuple[str, ...] = (), risk: str | None = None) -> Callable[[Run], Run]:
    """Register the decorated function as an attack."""

    def register(run: Run) -> Run:
        _registered[number] = Attack(number, title, run, needs, risk)
        return run

    return register


def attacks() -> Mapping[str, Attack]:
    """All attacks by number."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    load_attacks()
    return dict(sorted(_registered.items()))


def find(number: str) -> Attack:
    """Get an attack by its number.

    Raises
    ------
    InputError
        there is none of that number, or it needs a package that is not installed.
    """
    known = attacks()
    if number not in known:
        raise InputError(f"attack: expected one of {', '.join(known)}, got {number!r}")
    known[number].require()
    return known[number]


def table() -> str:
    """The attacks as a markdown table, for the documentation."""
    rows = [f"| {one.number} | {one.title} | {', '.join(one.needs)} |" for one in attacks().values()]
    return "\n".join(["| attack | what it does | needs |", "|---|---|---|", *rows])
