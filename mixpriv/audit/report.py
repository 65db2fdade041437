"""The report: figures of all modes side by side as HTML with pictures, markdown and CSV."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2
import numpy as np
from PIL import Image as Pillow

from mixpriv.audit.findings import Finding
from mixpriv.audit.policy import Verdict
from mixpriv.audit.registry import attacks
from mixpriv.reid.features import Image

_ZOOM = 2


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
    head, *body = rows(findings)
    lines = [f"# {provenance.title}", "", *provenance.about, ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    if verdicts:
        lines += [
            "",
            "## Thresholds of the policy",
            "",
            "| mode | attack | figure | value | at most | |",
            "|---|---|---|---|---|---|",
        ]
        lines += ["| " + " | ".join(row) + " |" for row in _judged(verdicts)]
    return "\n".join([*lines, "", f"Made by `{provenance.command}`.", ""])


def _judged(verdicts: Sequence[Verdict]) -> list[list[str]]:
    return [
        [v.finding.mode, v.finding.attack, v.finding.figure, f"{v.finding.value:.3f}", f"{v.limit:.3f}",
         "met" if v.met else "NOT met"]
        for v in verdicts
    ]  # fmt: skip


def page(
    findings: Sequence[Finding],
    pictures: Mapping[str, Mapping[str, Image]],
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
        pictures={mode: {name: _embedded(one) for name, one in shown.items()} for mode, shown in pictures.items()},
        verdicts=_judged(verdicts),
        head=head[1:],
        attacks={title: own for title, own in by_attack.items() if own},
    )


def _embedded(image: Image) -> str:
    """Three planes through the middle as a PNG in a data URL; windowed to the image's own range."""
    d, h, w = image.shape
    planes = [np.rot90(plane) for plane in (image[d // 2], image[:, h // 2], image[:, :, w // 2])]
    tall = max(plane.shape[0] for plane in planes)
    strip = np.concatenate([np.pad(p, ((0, tall - p.shape[0]), (0, 2))) for p in planes], axis=1)
    low, high = float(strip.min()), float(np.percentile(strip, 99.8))
    grey = (255 * np.clip((strip - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    picture = Pillow.fromarray(grey).resize((_ZOOM * grey.shape[1], _ZOOM * grey.shape[0]))
    data = io.BytesIO()
    picture.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
