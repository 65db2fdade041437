"""Controls, policy, report and command: an audit cannot pass by not looking."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixpriv.audit.findings import Finding, finding, over_people, to_csv
from mixpriv.audit.policy import Bar, InvalidAuditError, check_controls, judge, load_policy
from mixpriv.audit.report import Made, markdown, page
from mixpriv.audit.run import run
from mixpriv.audit.views import Mode, parse_mode
from mixpriv.bundle import Shielded
from mixpriv.cli.research.main import main
from mixpriv.errors import InputError
from tests.audit.conftest import EFFORT, Stage

RAW = Finding("A1", "none", "rank-1, best way", 1.0, 1.0, 1.0, 0.1, "chance", 6, 6)
BLIND = replace(RAW, mode="blind", value=0.2, low=0.0, high=0.5)
MADE = Made("Audit", ["Of <nobody>."], "mixpriv audit")


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
    def test_bars(self) -> None:
        bars = [Bar("A1", "rank-1*", "none", times_baseline=3.0), Bar("A1", "rank-1*", "blind", at_most=0.2)]
        assert [verdict.met for verdict in judge([RAW, BLIND], bars)] == [False, True]

    def test_a_bar_that_covers_nothing(self) -> None:
        with pytest.raises(InputError, match="the bar on A9, 'x', mode '\\*' covers no figure"):
            judge([RAW], [Bar("A9", "x", at_most=1.0)])

    @pytest.mark.parametrize(
        "text", ["", "x = 1", "[[bar]]\nattack = 'A1'", "[[bar]]\nattack='A1'\nfigure='x'\nat_least=1", "not toml"]
    )
    def test_bad_files(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "policy.toml").write_text(text)
        with pytest.raises(InputError, match=r"policy .*policy\.toml: expected"):
            load_policy(str(tmp_path / "policy.toml"))

    def test_neither_limit(self, tmp_path: Path) -> None:
        (tmp_path / "policy.toml").write_text("[[bar]]\nattack = 'A1'\nfigure = 'x'\n")
        with pytest.raises(InputError, match="either at_most or times_baseline"):
            load_policy(str(tmp_path / "policy.toml"))

    def test_the_shipped_one(self) -> None:
        assert {bar.attack for bar in load_policy("shielded")} >= {"A1", "A2", "A4", "A6", "A7", "A8"}
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
        verdicts = judge([RAW, BLIND], [Bar("A1", "rank-1*", "none", at_most=0.5)])
        text = markdown([RAW, BLIND], verdicts, MADE)
        assert "| A1 | rank-1, best way | 0.100 (chance) | 1.00 [1.00, 1.00] | 0.20 [0.00, 0.50] |" in text
        assert "| none | A1 | rank-1, best way | 1.000 | 0.500 | NOT met |" in text
        image = np.random.default_rng(0).random((8, 9, 10)).astype(np.float32)
        made = page([RAW, BLIND], {"none": {"the <scan>": image}}, verdicts, MADE)
        assert made.count("data:image/png;base64,") == 1
        assert "the &lt;scan&gt;" in made
        assert "http" not in made


class TestModes:
    def test_names(self) -> None:
        assert parse_mode("warp=8+mixup=0.3") == Mode("warp=8+mixup=0.3", True, 0.3, 8.0)
        assert parse_mode("mixup").weight is None
        assert parse_mode("shielded", Shielded((0.1, 0.2), 8.0)) == Mode(
            "shielded", True, warp_mm=8.0, weight_range=(0.1, 0.2)
        )

    @pytest.mark.parametrize("text", ["", "mixup=2", "warp", "warp=9", "warp=x", "other", "none+mixup", "shielded"])
    def test_others(self, text: str) -> None:
        with pytest.raises(InputError, match="mode: expected none, blind, shielded, mixup"):
            parse_mode(text)


def test_the_same_audit_twice(stage: Stage) -> None:
    small = replace(EFFORT, queries=3)
    runs = [run(stage.world, stage.people, [parse_mode("mixup")], ["A1", "A8"], small).findings for _ in range(2)]
    assert to_csv(runs[0]) == to_csv(runs[1])
    assert {one.mode for one in runs[0]} == {"none", "blind", "mixup"}


class TestCommand:
    def test_phantoms_and_a_policy(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "policy.toml").write_text(
            "[[bar]]\nattack='A1'\nfigure='rank-1, best way'\nmode='mixup'\nat_most=0.5"
        )
        options = ["--phantoms", "--subjects", "6", "--attackers", "1", "--modes", "mixup", "--attacks", "A1"]
        policy = ["--policy", str(tmp_path / "policy.toml")]
        assert main(["audit", *options, *policy, "-o", str(tmp_path / "out")]) == 6
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"audit.csv", "audit.md", "audit.html"}
        assert "mixup: right person first 1.00" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["-o", "x"], "expected one of --phantoms, --data DIR, and wire DIR"),
            (["wire", "-o", "x"], "expected 'wire DIR --gallery DIR'"),
            (["--phantoms", "-o", "."], "exists; expected a new folder"),
            (["--phantoms", "--modes", "magic", "-o", "x"], "mode: expected none"),
            (["--phantoms", "--subjects", "4", "--attackers", "4", "-o", "x"], "--attackers: expected 1 to 3, got 4"),
        ],
    )
    def test_bad_usage(self, options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["audit", *options]) == 2
        assert said in capsys.readouterr().err
