"""``mixpriv-server check``: a real inference at each server, for probes and people."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mixpriv.cli.options import add_connection_options
from mixpriv.cli.server.common import add_common_options
from mixpriv.server.events import EventLog


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv-server``."""
    check = commands.add_parser(
        "check",
        help="ask servers whether they are well",
        description="Ask each server for a real inference. Exit codes: 0 all are well, 2 bad usage, "
        "3 one cannot be reached or does not answer, 4 one serves another network.",
    )
    add_common_options(check)
    check.set_defaults(run=run)
    check.add_argument(
        "--server",
        default=os.environ.get("MIXPRIV_SERVER") or "127.0.0.1:8001",
        metavar="HOST:PORT[,...]",
        help="default: $MIXPRIV_SERVER or 127.0.0.1:8001",
    )
    check.add_argument("--full", action="store_true", help=argparse.SUPPRESS)  # what every check does by now
    add_connection_options(check)


def run(args: argparse.Namespace, log: EventLog) -> int:
    """Ask every server; returns the first failure's exit code, or 0."""
    from mixpriv.bundle import load_bundle
    from mixpriv.cli.server.asking import check

    return check(load_bundle(args.bundle), args, log)
