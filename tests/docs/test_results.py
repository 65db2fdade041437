"""Every page of results is indexed, and every link in the documents leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the documents are not beside these tests")


def test_the_index_is_that_of_the_pages() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "index-results", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def _places(page: Path) -> set[str]:
    """What a page's headings are called in links."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_into_pages_meet_a_heading(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*\.md)?#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [(name, place) for name, place in links if place not in _places(page.parent / name if name else page)]
    assert not missing
