"""No change moves what is sent, answered or noted, unless it means to; see `tests.golden.digests`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.golden.digests import CASES, DIGESTS, pinned

EXPECTED = json.loads(DIGESTS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return pinned()


def test_every_case_has_digests() -> None:
    assert list(EXPECTED) == list(CASES)


@pytest.mark.parametrize("part", ["sent", "labels", "ledger"])
@pytest.mark.parametrize("case", CASES)
def test_unchanged(case: str, part: str, found: dict[str, Any]) -> None:
    assert found[case][part] == EXPECTED[case][part]


def test_the_cases_are_what_they_say() -> None:
    sent = {name: digests["sent"] for name, digests in EXPECTED.items()}
    assert {name: len(digests) for name, digests in sent.items()} == {
        name: case.references if case.mode != "local" else 0 for name, case in CASES.items()
    }
    assert sent["mixup, 2 references"][0] == sent["mixup, 1 reference"][0]
    assert [len(digests["ledger"]) for digests in EXPECTED.values()] == [int(c.mode != "local") for c in CASES.values()]
