"""``mixpriv extraction``: how well the brain is found in real heads."""

from __future__ import annotations

import argparse
from typing import Any

from mixpriv.cli.options import a_path
from mixpriv.cli.research.pages import require_markdown
from mixpriv.cli.terminal import say, say_text


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser("extraction", help="how well the brain is found in real heads, in a page")
    parser.add_argument("heads", type=a_path, help="the list of heads, tab-separated, see docs/training.md")
    parser.add_argument("--data", type=a_path, required=True, help="folder in which the list's paths lie")
    parser.add_argument("--bundle", default="brain-t1", help="a shipped name or a folder (brain-t1)")
    parser.add_argument("--other", default="another tool", help="the name of the tool that made the other masks")
    parser.add_argument("-o", "--output", type=a_path, required=True, help="markdown file")


def run(args: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    from mixpriv.bundle import load_bundle
    from mixpriv.evaluation.extraction import page, read_cases, try_heads
    from mixpriv.imaging.preprocess.extraction import extract_brain, load_extractor
    from mixpriv.provenance import commit

    require_markdown(args.output)
    cases, bundle, made_at = read_cases(args.heads, args.data), load_bundle(args.bundle), commit()
    extractor = load_extractor(bundle)
    outcomes = []
    for outcome in try_heads(cases, lambda scan: extract_brain(scan.modalities[0], extractor, bundle)):
        outcomes.append(outcome)
        say(f"{len(outcomes)} of {len(cases)}: {outcome.case.source} {outcome.case.name}")
    command = f"mixpriv extraction {args.heads.name} --data DATA --bundle {args.bundle} --other '{args.other}'"
    args.output.write_text(page(outcomes, bundle, args.other, made_at, command), encoding="utf-8")
    say_text(args.output.read_text(encoding="utf-8").rstrip("\n"))
    return 0
