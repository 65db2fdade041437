"""``mixpriv front``: accuracy against linkage."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mixpriv.cli.options import a_path
from mixpriv.cli.research.pages import require_markdown
from mixpriv.cli.terminal import say_text


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser("front", help="accuracy against linkage: what evaluate and audit found, in a picture")
    parser.add_argument("config", help="the config that the bundle was trained with")
    parser.add_argument("--bundle", help="a shipped name or a folder (the config's name)")
    parser.add_argument("--scores", type=a_path, required=True, help="CSV file that evaluate wrote")
    parser.add_argument("--audits", type=a_path, nargs="+", required=True, help="audit.csv files, the last one counts")
    parser.add_argument("--split", default="given", help="what the scans are called in the table")
    parser.add_argument(
        "-o", "--output", type=a_path, required=True, help="markdown file; the picture is put beside it"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    from mixpriv.bundle import load_bundle
    from mixpriv.evaluation import report, tradeoff
    from mixpriv.provenance import commit
    from mixpriv.training.config import load_config

    require_markdown(args.output)
    config, audits = load_config(args.config), [path.name for path in args.audits]
    command = (
        f"mixpriv front {Path(args.config).name} --scores {args.scores.name} --audits {' '.join(audits)} "
        f"--split {args.split} -o {args.output.name}"
    )
    made = report.Run(commit(), args.split, config.counted, 0, "", command)
    scores, linkage = report.read_scores(args.scores), tradeoff.read_linkage(args.audits)
    tradeoff.write_front(
        scores, linkage, load_bundle(args.bundle or config.name), made, [args.scores.name, *audits], args.output
    )
    say_text(args.output.read_text(encoding="utf-8").rstrip("\n"))
    return 0
