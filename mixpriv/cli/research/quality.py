"""``mixpriv quality``: what results of good and of bad scans look like, and whether the score tells them apart."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixpriv.cli.options import a_path
from mixpriv.cli.research.pages import require_markdown
from mixpriv.cli.terminal import complain, say_text
from mixpriv.errors import InputError

if TYPE_CHECKING:
    from mixpriv.bundle import Bundle
    from mixpriv.evaluation.quality_runs import Person, Trial

PROGRAM = "mixpriv"
ADULTS_YEARS = 28.0
"""About the age of the people whose volumes are the normal ones."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser("quality", help="calibrate the score of results, and try it on other people's scans")
    parser.add_argument("config", help="the config that the bundle was trained with")
    parser.add_argument("--bundle", help="a shipped name or a folder (the config's name)")
    parser.add_argument("--data", type=a_path, required=True, help="BIDS folder of labelled heads")
    parser.add_argument("--calibrate", nargs="+", required=True, metavar="SUBJECT", help="who sets the limits")
    parser.add_argument("--report", nargs="+", required=True, metavar="SUBJECT", help="who is reported")
    parser.add_argument(
        "--adults", type=a_path, nargs="+", default=[], metavar="SCAN", help="good; every other one counts"
    )
    parser.add_argument("--draws", type=int, default=1, help="severities of each kind (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--runs", type=a_path, required=True, help="the trials, one a line; what is in it is not repeated"
    )
    parser.add_argument("--norms", type=a_path, help="also write quality.json, the bundle's norms")
    parser.add_argument("-o", "--output", type=a_path, required=True, help="markdown file; a CSV file is put beside it")


def run(args: argparse.Namespace) -> int:
    """Try what was not tried yet, calibrate, and write the page; returns the exit code."""
    from mixpriv.atomic import write_outputs
    from mixpriv.bundle import load_bundle, require_one_modality
    from mixpriv.evaluation.quality_fit import calibrate, encode_norms
    from mixpriv.evaluation.quality_page import write_page
    from mixpriv.evaluation.quality_runs import REPORT
    from mixpriv.provenance import commit
    from mixpriv.training.config import load_config

    require_markdown(args.output)
    if args.norms is not None and args.norms.name != "quality.json":
        raise InputError(f"{args.norms}: expected a file named quality.json")
    if set(args.calibrate) & set(args.report):
        raise InputError("--calibrate, --report: expected no subject in both")
    config = load_config(args.config)
    bundle = load_bundle(args.bundle or config.name)
    require_one_modality(bundle, "quality")
    trials = _trials(args, bundle)
    norms = calibrate([t for t in trials if t.part != REPORT], bundle, config.counted, ADULTS_YEARS)
    command = _command(args)
    if args.norms is not None:
        text = json.dumps(encode_norms(norms, bundle, command), indent=1)
        write_outputs({args.norms: text.encode() + b"\n"}, force=True)
    write_page(trials, norms, bundle, [commit(), *_made(args, trials, command)], args.output)
    say_text(args.output.read_text(encoding="utf-8").rstrip("\n"))
    return 0


def _trials(args: argparse.Namespace, bundle: Bundle) -> list[Trial]:
    """All trials, each noted as soon as it is done."""
    from mixpriv.engine.in_process import InProcessSegmenter
    from mixpriv.evaluation.methods import Methods, evaluation_key
    from mixpriv.evaluation.quality_runs import Trials, encode, first_trial, read_trials

    known = read_trials(args.runs) if args.runs.is_file() else []
    done = {trial.case for trial in known}
    segmenter = InProcessSegmenter(bundle.segmenter_path)
    work = Trials(Methods(bundle, evaluation_key(args.seed)), segmenter, args.seed)
    with args.runs.open("a", encoding="utf-8") as file:
        for person in _people(args, bundle):
            first = [] if first_trial(person).case in done else [work.untouched(person)]
            worse = work.of(person, args.draws, done) if person.labels is not None else ()
            for found in chain(first, worse):
                file.write("".join(encode(trial) + "\n" for trial in found))
                file.flush()
                complain(PROGRAM, found[0].case)
                known += found
    return list({(trial.case, trial.mode): trial for trial in known}.values())


def _people(args: argparse.Namespace, bundle: Bundle) -> Iterator[Person]:
    from mixpriv.datasets import find_heads
    from mixpriv.evaluation.quality_runs import CALIBRATE, REPORT, labelled, unlabelled

    yield from labelled(find_heads(args.data, args.calibrate), bundle, CALIBRATE)
    yield from labelled(find_heads(args.data, args.report), bundle, REPORT)
    yield from unlabelled(args.adults[::2], CALIBRATE)
    yield from unlabelled(args.adults[1::2], REPORT)


def _made(args: argparse.Namespace, trials: list[Trial], command: str) -> list[str]:
    from mixpriv.evaluation.quality_runs import CALIBRATE
    from mixpriv.provenance import hardware

    people = {t.person for t in trials if t.part == CALIBRATE}
    with_labels = {t.person for t in trials if t.part == CALIBRATE and t.dice}
    return [
        f"Calibrated on {len(with_labels)} people with labels and {len(people - with_labels)} good scans without.",
        f"Seed {args.seed}; {hardware()}. Every result is in [{args.output.stem}.csv](../data/{args.output.stem}.csv).",
        "",
        f"Made by `{command}`.",
    ]


def _command(args: argparse.Namespace) -> str:
    return " ".join(
        [
            f"mixpriv quality {Path(args.config).name} --data DATA --calibrate {' '.join(args.calibrate)}",
            f"--report {' '.join(args.report)}",
            *([f"--adults {len(args.adults)} SCANS"] if args.adults else []),
            f"--draws {args.draws} --seed {args.seed} --runs RUNS",
            *(["--norms quality.json"] if args.norms else []),
            f"-o {args.output.name}",
        ]
    )
