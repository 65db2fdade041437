"""README and documents are short and plain, so that readers whose first language is another can use them.

What is measured is prose alone: no code, tables, headings, pictures or front matter. A sentence ends at a full stop,
question mark or exclamation mark that white space follows, or at the end of a paragraph or an item of a list. A word is
what holds a letter or a digit. Text in backquotes counts as one word, and a link as its text.
The grade is that of Flesch and Kincaid. Its syllables are groups of vowels, without a silent e at the end.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
OTHERS = [ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]

README_LINES = 120
README_SENTENCE, LONGEST_SENTENCE = 25, 30
"""Words."""

HIGHEST_GRADE = 8.0
"""Of Flesch and Kincaid, for each page: about what people read at the age of 13."""

MOST_WORDS = 15_500
"""Of all documents together, as ``wc -w`` counts them, at 250 words a minute; pages of results are apart."""

_NO_PROSE = (
    re.compile(r"\A---\n.*?\n---\n", re.DOTALL),
    re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"(?<=\n\n)(?: {4}.*\n+)+"),
    re.compile(r"^\s*\|.*$", re.MULTILINE),
    re.compile(r"^#.*$", re.MULTILINE),
    re.compile(r"!\[.*?\]\(.*?\)", re.DOTALL),
)
_ITEM = re.compile(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", re.MULTILINE)
_END = re.compile(r"[.?!][)\"*_]*\s+")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|al|vs)\.")

pytestmark = pytest.mark.skipif(not README.is_file(), reason="the documents are not beside these tests")


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence of a page."""
    for pattern in _NO_PROSE:
        text = pattern.sub("\n\n", text)
    text = re.sub(r"``?[^`]+``?", "code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = _ABBREVIATION.sub(r"\1", text)
    parts = [part for block in _ITEM.split(text) for part in _END.split(block)]
    found = [[word for word in part.split() if re.search(r"\w", word)] for part in parts]
    return [words for words in found if words]


def syllables(word: str) -> int:
    """About how many syllables a word has."""
    letters = re.sub(r"[^a-z]", "", word.lower())
    silent = re.search(r"[^aeiouyl]e$|[aeiouy]le$", letters) is not None
    return max(1, len(re.findall(r"[aeiouy]+", letters)) - silent)


def grade(found: list[list[str]]) -> float:
    """The school grade of a text, as Flesch and Kincaid count it."""
    words = [word for sentence in found for word in sentence]
    return 0.39 * len(words) / len(found) + 11.8 * sum(map(syllables, words)) / len(words) - 15.59


def long_sentences(page: Path, most: int) -> list[str]:
    found = sentences(page.read_text(encoding="utf-8"))
    return [f"{len(words)} words: {' '.join(words)}" for words in found if len(words) > most]


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= README_LINES
    assert not long_sentences(README, README_SENTENCE)


@pytest.mark.parametrize("page", [*DOCUMENTS, *OTHERS], ids=lambda page: page.name)
def test_sentences_are_short(page: Path) -> None:
    assert not long_sentences(page, LONGEST_SENTENCE)


@pytest.mark.parametrize("page", [README, *DOCUMENTS, *OTHERS], ids=lambda page: page.name)
def test_words_are_plain(page: Path) -> None:
    assert grade(sentences(page.read_text(encoding="utf-8"))) <= HIGHEST_GRADE


def test_all_documents_can_be_read_in_an_hour() -> None:
    assert sum(len(page.read_text(encoding="utf-8").split()) for page in DOCUMENTS) < MOST_WORDS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two! Three: four\nfive.\n", [2, 3]),
        ("- an item\n- another item (e.g. this)\n", [2, 4]),
        ("# Title\n\n| a | b |\n\n```sh\nrun this. now\n```\n\nSay `a b c` to [the server](a.md).\n", [5]),
        ("Text.\n\n    code that. counts not\n\nMore than .5 of it.\n", [1, 5]),
    ],
)
def test_sentences_are_counted_as_said(text: str, expected: list[int]) -> None:
    assert [len(words) for words in sentences(text)] == expected


@pytest.mark.parametrize(("word", "expected"), [("the", 1), ("people", 2), ("segmentation", 4), ("scale", 1), ("x", 1)])
def test_syllables(word: str, expected: int) -> None:
    assert syllables(word) == expected
