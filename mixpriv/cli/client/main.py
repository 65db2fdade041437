"""``mixpriv-client``: the command of the trusted side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from mixpriv.cli import process
from mixpriv.cli.client import PROGRAM, info, key, ledger, references, segment, verify
from mixpriv.cli.options import Parser, add_program_options

EXIT_CODES = """\
exit codes: 0 done, 1 a bug, 2 bad usage, bad input or too little memory, 3 server unreachable, busy, timed out or
refusing us, 4 server serves another network, 5 output cannot be written, 130 interrupted, 129, 131, 143, 152 ended by
another signal"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return process.run(PROGRAM, partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    code: int = arguments.run(arguments)
    return code


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = Parser(
        prog=PROGRAM,
        description="Segment scans, here or on a server that sees only a mixture of the brain with a reference.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_program_options(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (segment, verify, references, ledger, info, key):
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
