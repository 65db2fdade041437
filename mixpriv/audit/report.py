"""The report: figures of all modes side by side as HTML with pictures, markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2

from mixpriv.audit import officer
from mixpriv.audit.findings import Finding
from mixpriv.audit.policy import Verdict
from mixpriv.audit.registry import attacks


@dataclass(frozen=True)
class Provenance:
    """Whom the audit was about and how it was made: lines of text, and the command."""

    title: str
    about: Sequence[str]
    command: str


def rows(findings: Sequence[Finding]) -> list[list[str]]:
    """Table of figures: what, what guessing or a template reaches, and a column for each mode."""
    modes = list(dict.fromkeys(one.mode for one in findings))
    table = [["attack", "figure", "guess or template", *modes]]
    of = {(one.attack, one.figure, one.mode): one for one in findings}
    order = list(_titles())
    for attack, figure in sorted(dict.fromkeys((one.attack, one.figure) for one in findings),
                                 key=lambda pair: order.index(pair[0])):  # fmt: skip
        found = [of.get((attack, figure, mode)) for mode in modes]
        known = next(one for one in found if one is not None)
        said = f"{known.baseline:.3f} ({known.against})" if known.against == "chance" else "0 (template subtracted)"
        table.append([attack, figure, said, *("" if one is None else _cell(one) for one in found)])
    return table


def _titles() -> dict[str, str]:
    """What stands above the figures of each attack, in the report's order."""
    known = {one.number: f"{one.number}: {one.title}" for one in attacks().values()}
    return {"view": "What is seen before any attack", **known}


def _cell(one: Finding) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def markdown(findings: Sequence[Finding], verdicts: Sequence[Verdict], provenance: Provenance) -> str:
    """The report without pictures."""
    lines = [f"# {provenance.title}", "", "## For a data-protection officer", ""]
    lines += [f"{paragraph}\n" for paragraph in officer.introduction()] + _table(officer.rows(findings))
    lines += ["", "## All figures", "", *provenance.about, ""]
    lines += _table(rows(findings))
    if verdicts:
        head = ["mode", "attack", "figure", "value", "at most", ""]
        lines += ["", "## Thresholds of the policy", "", *_table([head, *_judged(verdicts)])]
    return "\n".join([*lines, "", f"Made by `{provenance.command}`.", ""])


def _table(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table in markdown, its head first."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return [lines[0], "|" + "---|" * len(table[0]), *lines[1:]]


def _judged(verdicts: Sequence[Verdict]) -> list[list[str]]:
    return [
        [v.finding.mode, v.finding.attack, v.finding.figure, f"{v.finding.value:.3f}", f"{v.limit:.3f}",
         "met" if v.met else "NOT met"]
        for v in verdicts
    ]  # fmt: skip


def page(
    findings: Sequence[Finding],
    pictures: Mapping[str, Mapping[str, str]],
    verdicts: Sequence[Verdict],
    provenance: Provenance,
) -> str:
    """The report as one HTML file. It shows people's brains: keep it as you keep the scans."""
    head, *body = rows(findings)
    by_attack = {title: [row[1:] for row in body if row[0] == attack] for attack, title in _titles().items()}
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("mixpriv.audit"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return templates.get_template("report.html").render(
        provenance=provenance,
        pictures=pictures,
        verdicts=_judged(verdicts),
        introduction=officer.introduction(),
        risks=officer.rows(findings),
        head=head[1:],
        attacks={title: own for title, own in by_attack.items() if own},
    )
