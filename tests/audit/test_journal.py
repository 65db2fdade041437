"""An audit that is stopped goes on where it was, with the same figures, and with no other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixpriv.audit.findings import Finding, finding
from mixpriv.audit.journal import Journal, Step
from mixpriv.errors import InputError

PLAN = [Step("none", "A1"), Step("mixup", "A1"), Step("mixup", "A4")]


def found(step: Step) -> list[Finding]:
    return [finding(step.attack, step.mode, "rank-1", [1.0, 0.0], ["a", "b"], 0.5)]


def test_goes_on_where_it_was(tmp_path: Path) -> None:
    worked: list[Step] = []

    def work(step: Step) -> tuple[list[Finding], dict[str, str]]:
        if len(worked) == 2:
            raise KeyboardInterrupt
        worked.append(step)
        return found(step), {"picture": step.mode}

    journal = Journal(tmp_path / "report", {"seed": 1})
    with pytest.raises(KeyboardInterrupt):
        journal.steps(PLAN, work)
    assert (tmp_path / "report" / "audit.csv").read_text().count("\n") == 3
    told: list[str] = []
    again = Journal(tmp_path / "report", {"seed": 1}, told.append)
    done = again.steps(PLAN, lambda step: (found(step), {"picture": step.mode}))
    assert [one.findings for one in done] == [found(step) for step in PLAN]
    assert [one.pictures["picture"] for one in done] == ["none", "mixup", "mixup"]
    assert len(told) == 1
    assert told[0].startswith("step 3 of 3, mixup: A4; about 0 s left")
    again.close()
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["audit.csv"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"findings": [{"x": 1}]}'])
def test_a_damaged_step_is_named(tmp_path: Path, text: str) -> None:
    Journal(tmp_path / "report", {"seed": 1})
    (tmp_path / "report" / "steps" / "step-001.json").write_text(text)
    with pytest.raises(InputError, match=r"step-001\.json: damaged; remove it to do this step again"):
        Journal(tmp_path / "report", {"seed": 1})


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    Journal(tmp_path / "report", {"seed": 1})
    with pytest.raises(InputError, match="holds an unfinished audit with other settings"):
        Journal(tmp_path / "report", {"seed": 2})
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="other: exists; expected a new folder"):
        Journal(tmp_path / "other", {"seed": 1})
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: exists; expected a new folder"):
        Journal(tmp_path / "file", {"seed": 1})
