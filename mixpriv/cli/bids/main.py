"""``mixpriv-bids``: segment a BIDS dataset, then tell of all its scans."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from mixpriv.cli import process
from mixpriv.cli.bids import PROGRAM
from mixpriv.cli.client.main import EXIT_CODES
from mixpriv.cli.client.segment import add_work_options, client_of, queue_of, use_threads
from mixpriv.cli.options import Parser, a_path, add_program_options
from mixpriv.cli.process import clean_up_undisturbed, require_memory
from mixpriv.cli.terminal import complain, say
from mixpriv.errors import InputError
from mixpriv.memory import share_one_heap

_BIDS = (
    "Segment the T1-weighted scans of a BIDS dataset (participant), or make one table and one page of all (group). "
    "What is done and whole is skipped. Several runs may share a dataset."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return process.run(PROGRAM, partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    if not arguments.skip_bids_validation:
        from mixpriv.cohort.bids import require_dataset

        require_dataset(arguments.bids_dir, arguments.output)
    return _group(arguments) if arguments.level == "group" else _participant(arguments)


def make_parser() -> argparse.ArgumentParser:
    """All options; those of BIDS Apps also with the underscores of their first version."""
    parser = Parser(
        prog=PROGRAM, description=_BIDS, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_program_options(parser)
    parser.add_argument("bids_dir", type=a_path, metavar="BIDS_DIR", help="the dataset")
    parser.add_argument("output", type=a_path, metavar="OUT_DIR", help="the dataset of derivatives; made if need be")
    parser.add_argument("level", choices=("participant", "group"), help="segment scans, or tell of all")
    which = parser.add_argument_group("which scans")
    for name, prefix in (("participant", "sub-"), ("session", "ses-")):
        which.add_argument(
            f"--{name}-label",
            f"--{name}_label",
            nargs="+",
            action="extend",
            default=[],
            metavar="LABEL",
            help=f"only these, with or without {prefix}",
        )
    which.add_argument(
        "--skip-bids-validation",
        "--skip_bids_validation",
        action="store_true",
        help="do not have the dataset checked by bids-validator-deno before",
    )
    parser.add_argument(
        "-w",
        "--work-dir",
        type=a_path,
        metavar="DIR",
        help="where runs that share a dataset note what each works on (default: beside the results)",
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="also how long each stage of a scan took")
    parser.add_argument("--force", action="store_true", help="also do what is done, again")
    parser.set_defaults(resume=True, save_wire=None, receipt=None)
    add_work_options(parser)
    return parser


def _participant(arguments: argparse.Namespace) -> int:
    require_memory(PROGRAM)
    share_one_heap()
    from mixpriv.bundle import load_bundle, require_one_modality
    from mixpriv.cli.client.outputs import plan_derivatives
    from mixpriv.cli.client.run import Run
    from mixpriv.cohort.bids import scans_of

    use_threads(arguments.threads)
    bundle = load_bundle(arguments.bundle)
    require_one_modality(bundle, PROGRAM)
    _check(arguments)
    labels = arguments.participant_label
    scans = scans_of(arguments.bids_dir, labels, arguments.session_label, bundle.modalities[0])
    with client_of(arguments, bundle, len(scans)) as client:
        jobs = plan_derivatives(arguments, scans, client.mode.count)
        done = Run(PROGRAM, client, verbose=arguments.verbose > 0)
        done.segment(jobs, queue_of(arguments, client, PROGRAM))
        clean_up_undisturbed()
    return done.end()


def _check(arguments: argparse.Namespace) -> None:
    """Tell what the validator finds; a file that is wrong does not stop the others."""
    if arguments.skip_bids_validation:
        return
    from mixpriv.cohort.bids import validate

    try:
        errors = validate(arguments.bids_dir)
    except InputError as problem:
        complain(PROGRAM, f"warning: the dataset was not validated: {problem}")
        return
    for error in errors:
        complain(PROGRAM, f"warning: {arguments.bids_dir}: not valid BIDS: {error}")


def _group(arguments: argparse.Namespace) -> int:
    from mixpriv.cohort.group import write_group

    for path in write_group(arguments.bids_dir, arguments.output):
        say(str(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
