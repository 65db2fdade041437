"""``mixpriv pool``: one table of the scores of several files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mixpriv.cli.options import a_path
from mixpriv.cli.research.pages import require_markdown
from mixpriv.cli.terminal import say_text


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser("pool", help="one table of the scores of several: folds, or trainings")
    parser.add_argument("config", help="the config that all were trained with")
    parser.add_argument("scores", type=a_path, nargs="+", help="CSV files that evaluate wrote")
    parser.add_argument("--repeats", action="store_true", help="the files are of several trainings, on the same scans")
    parser.add_argument("--split", default="given", help="what the scans are called in the table")
    parser.add_argument("-o", "--output", type=a_path, required=True, help="markdown file")


def run(args: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    from mixpriv.evaluation import pooling, report
    from mixpriv.provenance import commit
    from mixpriv.training.config import load_config

    require_markdown(args.output)
    config, names = load_config(args.config), [path.name for path in args.scores]
    repeats = " --repeats" if args.repeats else ""
    command = (
        f"mixpriv pool {Path(args.config).name} {' '.join(names)}{repeats} --split {args.split} -o {args.output.name}"
    )
    made = report.Run(commit(), args.split, config.counted, 0, "", command)
    scores = pooling.average(args.scores) if args.repeats else pooling.pool(args.scores)
    pooling.write_pooled(
        scores, config.name, config.segmenter.task.classes, made, args.scores, args.output, repeats=args.repeats
    )
    say_text(args.output.read_text(encoding="utf-8").rstrip("\n"))
    return 0
