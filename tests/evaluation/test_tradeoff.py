"""Accuracy and linkage of the same modes, joined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mixpriv.audit.findings import COLUMNS
from mixpriv.audit.modes import parse_mode
from mixpriv.bundle import Shielded, load_bundle
from mixpriv.cli.research.main import main
from mixpriv.errors import InputError
from mixpriv.evaluation.method_id import MethodId
from mixpriv.evaluation.metrics import Score
from mixpriv.evaluation.report import write_scores
from mixpriv.evaluation.tradeoff import audited_mode, front, read_linkage

DICE = {"none": 0.9, "mixup, a = 0.5": 0.8, "mixup, a drawn": 0.82, "shielded, a = 0.1": 0.7, "D, answer blanked": 0.6,
        "linear unmixing, a = 0.5": 0.5}  # fmt: skip


def scores() -> list[Score]:
    return [
        Score(MethodId.parse(m), s, s, label, d, 1.0, 1.0)
        for m, d in DICE.items()
        for s in ("a", "b")
        for label in (1, 2, 3, 4)
    ]


def write_audit(path: Path, modes: dict[str, float], attack: str = "A1") -> Path:
    rows = [f'{attack},{mode},"rank-1, best way",{value},0.1,0.9,0.05,chance,2,2' for mode, value in modes.items()]
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("method", "mode"),
    [
        ("none", "none"),
        ("mixup, a drawn", "mixup"),
        ("shielded, a drawn", "shielded"),
        ("mixup, a = 0.5", "mixup=0.5"),
        ("shielded, a = 0.1", "warp=8+mixup=0.1"),
        ("shielded, a = 0.10", "warp=8+mixup=0.1"),
    ],
)
def test_a_method_is_found_in_an_audit(method: str, mode: str) -> None:
    assert audited_mode(MethodId.parse(method), 8.0) == parse_mode(mode)


@pytest.mark.parametrize(
    "method", ["mixup, a drawn, K = 5", "linear unmixing, a = 0.5", "small: none", "D, answer blanked"]
)
def test_what_no_audit_attacks_is_not_found(method: str) -> None:
    assert audited_mode(MethodId.parse(method), 8.0) is None


def test_what_both_measured_is_joined(tmp_path: Path) -> None:
    first = write_audit(tmp_path / "one.csv", {"none": 1.0, "mixup": 0.9, "mixup=0.5": 0.7, "blind": 0.05})
    second = write_audit(tmp_path / "two.csv", {"mixup": 0.95, "mixup=.10+warp=8.0": 0.2})
    bundle = replace(load_bundle("brain-t1"), shielded=Shielded((0.1, 0.2), 8.0), unmixer_alone=True)
    points = front(scores(), read_linkage([first, second]), (1, 2, 3, 4), bundle)
    found = {str(point.method): (round(point.dice[0], 3), point.linkage.value) for point in points}
    assert found == {
        "none": (0.9, 1.0), "mixup, a = 0.5": (0.8, 0.7), "mixup, a drawn": (0.82, 0.95),
        "shielded, a = 0.1": (0.7, 0.2), "D, answer blanked": (0.6, 0.05),
    }  # fmt: skip
    needs_an_answer = front(scores(), read_linkage([first]), (1, 2, 3, 4), replace(bundle, unmixer_alone=False))
    assert "D, answer blanked" not in {str(point.method) for point in needs_an_answer}


def test_an_audit_without_linkage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^one\.csv: expected an audit\.csv with attack A1, got none"):
        read_linkage([write_audit(tmp_path / "one.csv", {"none": 1.0}, attack="A2")])


@pytest.mark.parametrize(
    ("scores", "audit", "output", "message"),
    [
        ("none.csv", "audit.csv", "f.md", "none.csv: no such file"),
        ("scores.csv", "none.csv", "f.md", "none.csv: no such file"),
        ("audit.csv", "audit.csv", "f.md", "audit.csv: expected scores as evaluate writes them"),
        ("scores.csv", "audit.csv", "f.png", "f.png: expected an output named .md"),
    ],
)
def test_what_does_not_fit_is_said(
    scores_file: Path, capsys: pytest.CaptureFixture[str], scores: str, audit: str, output: str, message: str
) -> None:
    folder = scores_file.parent
    write_audit(folder / "audit.csv", {"none": 1.0})
    arguments = ["--scores", str(folder / scores), "--audits", str(folder / audit), "-o", str(folder / output)]
    assert main(["front", "brain-t1", *arguments]) == 2
    assert capsys.readouterr().err == f"mixpriv: error: {message}\n"
    assert not (folder / output).exists()


@pytest.fixture
def scores_file(tmp_path: Path) -> Path:
    write_scores(scores(), tmp_path / "scores.csv")
    return tmp_path / "scores.csv"


def test_the_command_writes_table_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scores(scores(), tmp_path / "scores.csv")
    assert load_bundle("brain-t1").shielded is not None
    audit = write_audit(tmp_path / "audit.csv", {"none": 1.0, "mixup": 0.9, "warp=8+mixup=0.1": 0.1})
    arguments = ["front", "brain-t1", "--scores", str(tmp_path / "scores.csv"), "--audits", str(audit)]
    assert main([*arguments, "-o", str(tmp_path / "front.md")]) == 0
    text = (tmp_path / "front.md").read_text()
    assert text == capsys.readouterr().out
    assert "| shielded, a = 0.1 | 0.700 [0.700, 0.700] | -0.200 [-0.200, -0.200] | 0.10 [0.10, 0.90] | 2.0 |" in text
    assert "| D, answer blanked | 0.600 [0.600, 0.600] | -0.300 [-0.300, -0.300] | nothing is sent | 1.0 |" in text
    assert str(tmp_path) not in text
    assert (tmp_path / "front.png").is_file()
