"""The first page: which figure is about which risk, what was worst, and that no figure is called harmless."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mixpriv.audit import registry
from mixpriv.audit.findings import Finding, Outcome
from mixpriv.audit.officer import introduction, risk_of, risks, rows
from mixpriv.audit.report import Provenance, markdown, page

RANK = Finding("A1", "mixup", "rank-1, best way", 0.9, 0.8, 1.0, 0.1, "chance", 10, 10)


@pytest.mark.parametrize(
    ("attack", "figure", "risk"),
    [
        ("A1", "rank-1, best way", "singling out"),
        ("A3", "AUC, best way, superset bank", "linkability"),
        ("A6", "SSIM over template", "inference"),
        ("view", "SSIM over template", "inference"),
        ("A7", "Dice over atlas prior, learned", "inference"),
        ("A5", "AUC, same reference, if reused", None),
        ("A8", "identifying fields", None),
        ("view", "PSNR over template", None),
    ],
)
def test_what_figures_are_about(attack: str, figure: str, risk: str | None) -> None:
    assert risk_of(replace(RANK, attack=attack, figure=figure)) == risk


def test_an_attack_may_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = registry.Attack("X9", "Age", lambda context: Outcome([]), risk="inference")
    monkeypatch.setitem(registry._registered, "X9", own)
    assert risk_of(replace(RANK, attack="X9", figure="years")) == "inference"


@pytest.mark.parametrize(
    ("low", "says"),
    [(0.8, "far more often than by guessing"), (0.2, "More is found than by guessing"), (0.1, "no proof that nothing")],
)
def test_what_is_said(low: float, says: str) -> None:
    (one,) = risks([replace(RANK, low=low)])
    assert says in one.says


def test_what_is_found_in_noise_is_nothing() -> None:
    noise = replace(RANK, mode="blind", value=0.5, low=0.2)
    told = {one.mode: one.says for one in risks([replace(RANK, value=0.6, low=0.4), noise])}
    assert "or than in noise. That is no proof" in told["mixup"]
    assert "or than in noise. That is no proof" in told["blind"]


def test_noise_in_one_unit_hides_nothing_in_another() -> None:
    """Similarity and overlap are about one risk, and are not comparable."""
    ssim, dice = "SSIM over template", "Dice over atlas prior"
    none = replace(RANK, attack="A6", baseline=0.0)
    noise = [replace(none, mode="blind", figure=ssim, value=0.4, low=0.3)]
    found = [replace(none, figure=ssim, value=0.38, low=0.3), replace(none, figure=dice, value=0.2, low=0.1)]
    told = {one.mode: one for one in risks([*noise, *found])}
    assert told["mixup"].worst.figure == dice
    assert told["mixup"].says == "Something of this very person is learned."


def test_the_worst_attack_counts() -> None:
    (one,) = risks([RANK, replace(RANK, attack="A3", value=0.95), replace(RANK, attack="A4", value=0.2)])
    assert (one.worst.attack, one.tried) == ("A3", ("A1", "A3", "A4"))
    assert rows([RANK])[1][3] == "0.90 [0.80, 1.00]; guessing 0.10 (A1, rank-1, best way)"


def test_comes_first_in_both_reports() -> None:
    text = markdown([RANK], [], Provenance("Title", ["About."], "command"))
    assert text.index("data-protection officer") < text.index("All figures")
    assert all(paragraph in text for paragraph in introduction())
    html = page([RANK], {}, [], Provenance("Title", ["About."], "command"))
    assert html.index("data-protection officer") < html.index("<p>About.</p>")
