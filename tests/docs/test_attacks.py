"""The threat model's table of attacks is the one that the attacks themselves make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mixpriv.audit.registry import table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "threat_model.md"
_BETWEEN = re.compile(r"<!-- attacks: begin -->\n(.*?)\n<!-- attacks: end -->", re.DOTALL)

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the documents are not beside these tests")


def test_table_of_attacks_is_that_of_the_registry() -> None:
    """If not: ``python -c "from mixpriv.audit.registry import table; print(table())"`` goes between the marks."""
    found = _BETWEEN.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found.group(1) == table()
