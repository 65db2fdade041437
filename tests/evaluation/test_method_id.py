"""Names of methods: written, read again, and read from every published score file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixpriv.errors import InputError
from mixpriv.evaluation.method_id import MethodId
from mixpriv.evaluation.report import read_scores

PUBLISHED = Path(__file__).parents[2] / "docs" / "results" / "data"

NAMES = {
    "none": MethodId("none"),
    "mixup, a drawn": MethodId("mixup"),
    "mixup, a = 0.9": MethodId("mixup", 0.9),
    "mixup, a drawn, K = 10": MethodId("mixup", references=10),
    "linear unmixing, a = 0.5": MethodId("linear unmixing", 0.5),
    "shielded, a = 0.05": MethodId("shielded", 0.05),
    "D, answer blanked": MethodId("D, answer blanked"),
    "D, answer blanked, shielded": MethodId("D, answer blanked, shielded"),
    "network of D's size on the scan": MethodId("network of D's size on the scan"),
    "warp, 2 mm": MethodId("warp", strength=2.0),
    "noise, 0.1": MethodId("noise", strength=0.1),
    "halved": MethodId("halved"),
    "shielded: shielded, a drawn": MethodId("shielded", variant="shielded"),
    "reference far from it: mixup, a drawn": MethodId("mixup", variant="reference far from it"),
}


@pytest.mark.parametrize("text", NAMES)
def test_a_name_is_read_as_it_is_written(text: str) -> None:
    assert MethodId.parse(text) == NAMES[text]
    assert str(NAMES[text]) == text


@pytest.mark.parametrize(
    "text",
    ["", "mixup", "mixup, a = ", "mixup, a = high", "mixup, a drawn, K = 0", "warp, 2", "noise", "none, a = 0.5",
     "none\n", "small: ", "D, answer", "0.5"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="method: expected one as evaluate writes it, got"):
        MethodId.parse(text)


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.csv")), ids=lambda path: path.stem)
def test_published_scores_are_read(path: Path) -> None:
    if not path.read_text(encoding="utf-8").startswith("method,"):
        return
    with path.open(encoding="utf-8") as file:
        next(file)
        first = next(file)
    scores = read_scores(path)
    assert first.startswith(f"{scores[0].method},")
    written = {str(score.method) for score in scores}
    assert {str(MethodId.parse(text)) for text in written} == written
