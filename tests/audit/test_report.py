"""Controls, policy, report and command: an audit cannot pass by not looking."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixpriv.audit import registry
from mixpriv.audit.findings import Finding, Outcome, finding, over_people, to_csv
from mixpriv.audit.images import embedded
from mixpriv.audit.modes import parse_mode
from mixpriv.audit.policy import InvalidAuditError, Threshold, check_controls, judge, load_policy
from mixpriv.audit.report import Provenance, markdown, page, rows
from mixpriv.cli.research.main import main
from mixpriv.errors import InputError
from mixpriv.protection.modes import Mixup, Shielded
from mixpriv.protection.rivals import Warped

RAW = Finding("A1", "none", "rank-1, best way", 1.0, 1.0, 1.0, 0.1, "chance", 6, 6)
BLIND = replace(RAW, mode="blind", value=0.2, low=0.0, high=0.5)
MADE = Provenance("Audit", ["Of <nobody>."], "mixpriv audit")


class TestControls:
    def test_both_hold(self) -> None:
        check_controls([RAW, BLIND])

    @pytest.mark.parametrize(
        ("findings", "said"),
        [
            ([replace(RAW, value=0.5), BLIND], "raw scans must be linked in 80% of the cases, got 50%"),
            ([RAW, replace(BLIND, value=0.9, low=0.6)], "noise must be linked by chance, 0.100, got 0.900"),
        ],
    )
    def test_one_fails(self, findings: list[Finding], said: str) -> None:
        with pytest.raises(InvalidAuditError, match=said) as raised:
            check_controls(findings)
        assert raised.value.exit_code == 7


class TestPolicy:
    def test_thresholds(self) -> None:
        thresholds = [
            Threshold("A1", "rank-1*", "none", times_baseline=3.0),
            Threshold("A1", "rank-1*", "blind", at_most=0.2),
        ]
        assert [verdict.met for verdict in judge([RAW, BLIND], thresholds)] == [False, True]

    def test_a_threshold_that_covers_nothing(self) -> None:
        with pytest.raises(InputError, match="the threshold on A9, 'x', mode '\\*' covers no figure"):
            judge([RAW], [Threshold("A9", "x", at_most=1.0)])

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "x = 1",
            "threshold = 1",
            "[[threshold]]\nattack = 'A1'",
            "[[threshold]]\nattack='A1'\nfigure='x'\nat_least=1",
            "[[threshold]]\nattack='A1'\nfigure='x'\nat_most=1\n[[treshold]]\nattack='A2'\nfigure='x'\nat_most=1",
            "[[threshold]]\nattack='A1'\nfigure='x'\nat_most='1'",
            "[[threshold]]\nattack=1\nfigure='x'\nat_most=1",
            "not toml",
        ],
    )
    def test_bad_files(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "policy.toml").write_text(text)
        with pytest.raises(InputError, match=r"policy .*policy\.toml: expected"):
            load_policy(str(tmp_path / "policy.toml"))

    def test_neither_limit(self, tmp_path: Path) -> None:
        (tmp_path / "policy.toml").write_text("[[threshold]]\nattack = 'A1'\nfigure = 'x'\n")
        with pytest.raises(InputError, match="either at_most or times_baseline"):
            load_policy(str(tmp_path / "policy.toml"))

    def test_the_old_name_is_read_too(self, tmp_path: Path) -> None:
        rows = "[[bar]]\nattack='A1'\nfigure='x'\nat_most=1\n[[threshold]]\nattack='A2'\nfigure='x'\nat_most=1\n"
        (tmp_path / "policy.toml").write_text(rows)
        assert [one.attack for one in load_policy(str(tmp_path / "policy.toml"))] == ["A1", "A2"]

    def test_the_shipped_one(self) -> None:
        assert {one.attack for one in load_policy("shielded")} >= {"A1", "A2", "A4", "A6", "A7", "A8"}
        with pytest.raises(InputError, match="policy nowhere"):
            load_policy("nowhere")


class TestFigures:
    def test_requests_of_one_person_are_one_value(self) -> None:
        assert over_people([1.0, 0.0, 1.0], ["a", "a", "b"])[0] == pytest.approx(0.75)
        assert over_people([1.0] * 9, ["a"] * 9) == (1.0, 1.0, 1.0)

    def test_csv(self) -> None:
        lines = to_csv([finding("A1", "none", "rank-1, x", [1.0, 0.0], ["a", "b"], 0.5)]).splitlines()
        assert lines[0].startswith("attack,mode,figure,value,low,high,baseline")
        assert lines[1] == 'A1,none,"rank-1, x",0.500,0.000,1.000,0.500,chance,2,2'

    def test_report(self) -> None:
        verdicts = judge([RAW, BLIND], [Threshold("A1", "rank-1*", "none", at_most=0.5)])
        text = markdown([RAW, BLIND], verdicts, MADE)
        assert "| A1 | rank-1, best way | 0.100 (chance) | 1.00 [1.00, 1.00] | 0.20 [0.00, 0.50] |" in text
        assert "| none | A1 | rank-1, best way | 1.000 | 0.500 | NOT met |" in text
        image = np.random.default_rng(0).random((8, 9, 10)).astype(np.float32)
        made = page([RAW, BLIND], {"none": {"the <scan>": embedded(image)}}, verdicts, MADE)
        assert made.count("data:image/png;base64,") == 1
        assert "the &lt;scan&gt;" in made
        assert "Of &lt;nobody&gt;." in made
        assert "<td>rank-1, best way</td><td>0.100 (chance)</td><td>1.00 [1.00, 1.00]</td>" in made
        assert "<td>NOT met</td>" in made
        assert "http" not in made


def test_an_attack_of_somebody_elses_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registered, "A9", registry.Attack("A9", "Another", lambda context: Outcome([])))
    found = [replace(RAW, attack="A9"), RAW]
    assert [row[0] for row in rows(found)[1:]] == ["A1", "A9"]
    assert "<h2>A9: Another</h2>" in page(found, {}, [], MADE)


def test_without_the_extra_one_line_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else found(name))
    assert main(["audit", "--phantoms", "-o", str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err == "mixpriv: error: mixpriv audit needs scikit-learn: pip install 'mixpriv[audit]'\n"
    assert not (tmp_path / "new").exists()


class TestModes:
    def test_names(self) -> None:
        assert parse_mode("warp=8+mixup=0.3") == Shielded(0.3, 8.0, check=False)
        assert parse_mode("mixup=0.3") == Mixup(0.3)
        assert parse_mode("warp=8") == Warped(8.0)
        assert parse_mode("shielded") == Shielded()

    @pytest.mark.parametrize("text", ["", "mixup=2", "warp", "warp=9", "warp=x", "other", "none+mixup"])
    def test_others(self, text: str) -> None:
        with pytest.raises(InputError, match="mode: expected none, blind, shielded, mixup"):
            parse_mode(text)
