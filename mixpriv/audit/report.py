"""The report: figures of all modes side by side as HTML with pictures, markdown and CSV."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from mixpriv.audit.findings import Finding
from mixpriv.audit.policy import Verdict
from mixpriv.reid.features import Image

_ATTACKS = {
    "view": "What is seen before any attack",
    "A1": "A1 linkage without training",
    "A2": "A2 learned linkage",
    "A3": "A3 reference bank",
    "A4": "A4 many requests of one scan",
    "A5": "A5 were a reference reused",
    "A6": "A6 separation by a network",
    "A7": "A7 labels without the key",
    "A8": "A8 side channels",
}
_ZOOM = 2


@dataclass(frozen=True)
class Made:
    """Whom the audit was about and how it was made: lines of text, and the command."""

    title: str
    about: Sequence[str]
    command: str


def rows(findings: Sequence[Finding]) -> list[list[str]]:
    """Table of figures: what, what guessing or a template reaches, and a column for each mode."""
    modes = list(dict.fromkeys(one.mode for one in findings))
    table = [["attack", "figure", "guess or template", *modes]]
    of = {(one.attack, one.figure, one.mode): one for one in findings}
    order = list(_ATTACKS)
    for attack, figure in sorted(dict.fromkeys((one.attack, one.figure) for one in findings),
                                 key=lambda pair: order.index(pair[0])):  # fmt: skip
        found = [of.get((attack, figure, mode)) for mode in modes]
        known = next(one for one in found if one is not None)
        said = f"{known.baseline:.3f} ({known.against})" if known.against == "chance" else "0 (template subtracted)"
        table.append([attack, figure, said, *("" if one is None else _cell(one) for one in found)])
    return table


def _cell(one: Finding) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def markdown(findings: Sequence[Finding], verdicts: Sequence[Verdict], made: Made) -> str:
    """The report without pictures."""
    head, *body = rows(findings)
    lines = [f"# {made.title}", "", *made.about, ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    if verdicts:
        lines += [
            "",
            "## Bars of the policy",
            "",
            "| mode | attack | figure | value | at most | |",
            "|---|---|---|---|---|---|",
        ]
        lines += ["| " + " | ".join(row) + " |" for row in _judged(verdicts)]
    return "\n".join([*lines, "", f"Made by `{made.command}`.", ""])


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
    made: Made,
) -> str:
    """The report as one HTML file. It shows people's brains: keep it as you keep the scans."""
    head, *body = rows(findings)
    parts = [f"<h1>{html.escape(made.title)}</h1>", f"<p>{html.escape(' '.join(made.about))}</p>"]
    for mode, shown in pictures.items():
        figures = "".join(
            f"<figure><img alt='{html.escape(name)}' src='{_embedded(image)}'>"
            f"<figcaption>{html.escape(name)}</figcaption></figure>"
            for name, image in shown.items()
        )
        parts.append(f"<h2>Mode {html.escape(mode)}, the first person</h2><div class='row'>{figures}</div>")
    if verdicts:
        judged = [["mode", "attack", "figure", "value", "at most", ""], *_judged(verdicts)]
        parts += ["<h2>Bars of the policy</h2>", _table(judged)]
    for attack, title in _ATTACKS.items():
        own = [row[1:] for row in body if row[0] == attack]
        if own:
            parts += [f"<h2>{title}</h2>", _table([head[1:], *own])]
    parts.append(f"<p>Made by <code>{html.escape(made.command)}</code>.</p>")
    return f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(made.title)}</title>{_STYLE}" + (
        "\n".join(parts) + "</html>\n"
    )


def _table(cells: Sequence[Sequence[str]]) -> str:
    def row(values: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values) + "</tr>"

    return "<table>" + row(cells[0], "th") + "".join(row(values, "td") for values in cells[1:]) + "</table>"


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


_STYLE = (
    "<style>body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.2rem .6rem;text-align:left}"
    ".row{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}figcaption{color:#555}</style>"
)
