"""An audit's steps as they are done: written at once, so that an audit that was stopped goes on where it was."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mixpriv.atomic import make_folder, write_file
from mixpriv.audit.findings import Finding, to_csv
from mixpriv.errors import InputError

_FOLDER, _SETTINGS = "steps", "settings.json"


@dataclass(frozen=True)
class Step:
    """One attack on one mode."""

    mode: str
    attack: str


@dataclass(frozen=True)
class Done:
    """What a step found; ``pictures`` as PNGs in data URLs, by name."""

    findings: list[Finding]
    pictures: Mapping[str, str] = field(repr=False)
    seconds: float


class Journal:
    """The steps of an audit, in a folder of its own below the report's.

    Parameters
    ----------
    report : the folder of the report
    settings : all that the figures depend on; an audit goes on only with the same
    tell : hears of each step, and of the time that is left

    Raises
    ------
    InputError
        the folder exists, and holds no unfinished audit with these settings, or a step of it is damaged.
    """

    def __init__(
        self, report: Path, settings: Mapping[str, Any], tell: Callable[[str], None] = lambda what: None
    ) -> None:
        self._report, self._folder, self._tell = report, report / _FOLDER, tell
        self._done: dict[Step, Done] = {}
        text = json.dumps(settings, indent=2, sort_keys=True)
        if report.exists():
            self._resume(report, text)
        else:
            make_folder(report)
            make_folder(self._folder)
            write_file(self._folder / _SETTINGS, text.encode())

    def _resume(self, report: Path, text: str) -> None:
        try:
            same = (self._folder / _SETTINGS).read_text(encoding="utf-8") == text
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{report}: exists; expected a new folder") from None
        if not same:
            raise InputError(
                f"{report}: holds an unfinished audit with other settings; expected the same or a new folder"
            )
        for path in self._folder.glob("step-*.json"):
            try:
                held = json.loads(path.read_text(encoding="utf-8"))
                findings = [Finding(**one) for one in held["findings"]]
                self._done[Step(held["mode"], held["attack"])] = Done(findings, held["pictures"], held["seconds"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                raise InputError(f"{path}: damaged; remove it to do this step again") from None

    def steps(
        self, plan: Sequence[Step], work: Callable[[Step], tuple[list[Finding], Mapping[str, str]]]
    ) -> list[Done]:
        """Do those steps that are not done yet; all of them, in the plan's order."""
        for number, step in enumerate(plan, start=1):
            if step in self._done:
                continue
            self._tell(f"step {number} of {len(plan)}, {step.mode}: {step.attack}{self._left(plan)}")
            begin = time.monotonic()
            findings, pictures = work(step)
            done = Done(findings, pictures, time.monotonic() - begin)
            document = {"mode": step.mode, "attack": step.attack, "pictures": dict(pictures), "seconds": done.seconds,
                        "findings": [asdict(one) for one in findings]}  # fmt: skip
            write_file(self._folder / f"step-{number:03d}.json", json.dumps(document).encode())
            self._done[step] = done
            every = [finding for one in plan if one in self._done for finding in self._done[one].findings]
            write_file(self._report / "audit.csv", to_csv(every).encode())
        return [self._done[step] for step in plan]

    def close(self) -> None:
        """The report is written: the steps are not needed any more."""
        shutil.rmtree(self._folder)

    def _left(self, plan: Sequence[Step]) -> str:
        """About how long the rest takes, by what each attack took on other modes."""
        if not self._done:
            return ""
        every = [done.seconds for done in self._done.values()]
        left = 0.0
        for step in plan:
            if step not in self._done:
                same = [done.seconds for other, done in self._done.items() if other.attack == step.attack] or every
                left += sum(same) / len(same)
        return f"; about {left:.0f} s left" if left < 100 else f"; about {left / 60:.0f} min left"
