"""What the fields of a record may hold: small checks, of which a table for a whole record is made.

A check takes a value as JSON gives it, and returns what it means or raises a `FieldError` that says what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mixpriv.errors import printable

T = TypeVar("T")
Check = Callable[[Any], T]

_REQUIRED = object()


class FieldError(ValueError):
    """A value is not what it must be; the text says where in the record."""


@dataclass(frozen=True)
class Field:
    """A field of a record: how its value is checked, and what it is if it is missing, which is an error by default."""

    check: Check[Any]
    default: Any = _REQUIRED


def expected(what: str, value: Any) -> FieldError:
    """The error for a value that is not what it must be."""
    return FieldError(f"expected {what}, got {printable(repr(value), 60)}")


def number(low: float, high: float, *, above: bool = False) -> Check[float]:
    """A number from ``low``, or only ``above`` it, to ``high``.

    Examples
    --------
    >>> number(0, 1)(0.25)
    0.25
    >>> number(0, 1)(7)
    Traceback (most recent call last):
    ...
    mixpriv.schema.FieldError: expected a number from 0 to 1, got 7
    """

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not low <= value <= high or (above and value == low):
            raise expected(f"a number {'above' if above else 'from'} {low:g} to {high:g}", value)
        return float(value)

    return check


def whole(low: int, high: int) -> Check[int]:
    """A whole number from ``low`` to ``high``."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise expected(f"a whole number from {low} to {high}", value)
        return value

    return check


def text(pattern: str, what: str) -> Check[str]:
    """A text that a regular expression matches whole."""
    compiled = re.compile(pattern, re.DOTALL)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise expected(what, value)
        return value

    return check


def label(most: int) -> Check[str]:
    """A name for people to read: it begins with a letter or digit, so that no table program takes it for a formula."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= most or not value.isprintable():
            raise expected(f"a name of 1 to {most} printable characters", value)
        if not value[0].isalnum() or value[-1].isspace():
            raise expected("a name that begins with a letter or digit and ends without a blank", value)
        return value

    return check


def note(value: Any) -> Any:
    """Anything: what is said about a bundle and decides nothing."""
    return value


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise expected("true or false", value)
    return value


def one_of(*values: str) -> Check[str]:
    """One of some texts."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise expected(" or ".join(values), value)
        return value

    return check


def or_nothing(check: Check[T]) -> Check[T | None]:
    """What a check takes, or null."""
    return lambda value: None if value is None else check(value)


def sequence(check: Check[T], least: int, most: int, *, distinct: bool = False) -> Check[tuple[T, ...]]:
    """A list of so many values, each checked; ``distinct``: no two of them equal."""

    def checked(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise expected(f"a list of {least}{f' to {most}' if most > least else ''} values", value)
        found = tuple(check(item) for item in value)
        if distinct and len(set(found)) < len(found):
            raise expected("values that all differ", value)
        return found

    return checked


def interval(low: float, high: float) -> Check[tuple[float, ...]]:
    """Two numbers [from, to] between ``low`` and ``high``, in order."""
    both = sequence(number(low, high), 2, 2)

    def check(value: Any) -> tuple[float, ...]:
        found = both(value)
        if found[0] > found[1]:
            raise expected("two numbers in rising order", value)
        return found

    return check


def record(fields: Mapping[str, Field], *, others: bool = False) -> Check[dict[str, Any]]:
    """An object with the fields of a table; unknown ones are refused, or kept as ``others``.

    Examples
    --------
    >>> record({"name": Field(label(8)), "size": Field(whole(1, 9), 3)})({"name": "brain"})
    {'name': 'brain', 'size': 3}
    """

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise expected("an object", value)
        unknown = [name for name in value if name not in fields]
        if unknown and not others:
            raise FieldError(f"{printable(unknown[0], 60)}: unknown field")
        found = {name: value[name] for name in unknown}
        for name, field in fields.items():
            if name not in value:
                if field.default is _REQUIRED:
                    raise FieldError(f"{name}: missing")
                found[name] = field.default
                continue
            try:
                found[name] = field.check(value[name])
            except FieldError as error:
                inner = str(error)
                raise FieldError(f"{name}{': ' if inner.startswith('expected') else '.'}{inner}") from None
        return found

    return check
