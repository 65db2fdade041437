"""Feeds hostile inputs to one part of the product, and says which of them it does not withstand.

Input number ``i`` of a seed is always the same, so a number that was printed can be run again. A target is a module
beside this one with two functions: ``example(random)`` makes an input, and ``target()`` is a context manager that
gives a function to which inputs are fed; it raises AssertionError where the outcome is neither a success nor one of
the product's own errors in one printable line.
"""

from __future__ import annotations

import importlib
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, ModuleType

import numpy as np

TARGETS = ("headers", "formats", "bundles", "answers", "requests")
MOST_SECONDS = 10.0
MOST_BYTES = 2 << 30
KEPT_FAILURES = 20


@dataclass
class Outcome:
    """What came of a run: each failure is the number of its input and the last lines of its traceback."""

    inputs: int = 0
    slowest_s: float = 0.0
    slowest: int = -1
    peak_bytes: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing failed and memory stayed within its limit."""
        return not self.failures and self.peak_bytes <= MOST_BYTES

    def __str__(self) -> str:
        return (
            f"{self.inputs} inputs, {len(self.failures)} failures, slowest {self.slowest_s:.2f} s "
            f"(number {self.slowest}), peak memory {self.peak_bytes / 2**20:.0f} MiB"
        )


class TooSlowError(AssertionError):
    """One input took longer than is allowed."""


def load(name: str) -> ModuleType:
    """Get a target by name."""
    return importlib.import_module(f"tests.fuzz.{name}")


def run(name: str, numbers: range, seed: int = 0) -> Outcome:
    """Feed the inputs with these numbers to a target."""
    chosen, outcome = load(name), Outcome()
    with chosen.target() as feed:
        for number in numbers:
            made = chosen.example(np.random.default_rng([seed, number]))
            begin = time.monotonic()
            try:
                with _time_limit(MOST_SECONDS):
                    feed(made)
            except Exception:  # whatever it is, it is a finding
                outcome.failures.append((number, traceback.format_exc(limit=-3)))
            seconds = time.monotonic() - begin
            if seconds > outcome.slowest_s:
                outcome.slowest_s, outcome.slowest = seconds, number
            outcome.inputs += 1
            if len(outcome.failures) >= KEPT_FAILURES:
                break
    outcome.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return outcome


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
