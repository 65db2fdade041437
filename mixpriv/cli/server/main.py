"""``mixpriv-server``: serve a bundle's segmenter, and ask servers whether they are well."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from mixpriv.cli.options import Parser, add_program_options
from mixpriv.cli.process import EXIT_SIGNAL, explain
from mixpriv.cli.server import certificates, check, front, serve
from mixpriv.cli.terminal import complain
from mixpriv.errors import MixprivError
from mixpriv.server.events import PROGRAM, EventLog


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mixpriv-server`` and return its exit code."""
    try:
        args = make_parser().parse_args(argv)
    except MixprivError as error:
        complain(PROGRAM, f"error: {error}")
        return error.exit_code
    log = EventLog(json_lines=args.log == "json")
    try:
        code: int = args.run(args, log)
    except serve.StopRequested:
        log.tell("stopped", "stopped")
        return 0
    except KeyboardInterrupt:
        code = EXIT_SIGNAL + signal.SIGINT
        log.tell("failed", "interrupted", trouble=True, exit_code=code)
    except Exception as error:
        code, message = explain(error)
        log.tell("failed", message, trouble=True, exit_code=code)
    return code


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = Parser(
        prog=PROGRAM,
        description="Serve a bundle's segmenter until SIGINT, SIGTERM or SIGHUP.",
        epilog="Exit codes: 0 stopped, written or well, 2 bad usage, 3 the server cannot start, ended too often or "
        "cannot be reached, 4 it serves another network, 5 the repository cannot be written.",
    )
    add_program_options(parser)
    serve.add_options(parser)
    commands = parser.add_subparsers(metavar="COMMAND", title="other commands")
    check.add_parser(commands)
    certificates.add_parser(commands)
    front.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
