"""``mixpriv-client ledger``: what was sent of which scan."""

from __future__ import annotations

import argparse
from typing import Any

from mixpriv.cli.terminal import say, say_json


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv-client``."""
    parser = commands.add_parser("ledger", help="what was sent of which scan, and references used")
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--new", action="store_true", help="begin an empty one after the old one was lost")


def run(arguments: argparse.Namespace) -> int:
    """Tell what the ledger holds."""
    from mixpriv.client.ledger import Ledger, summary

    ledger = Ledger()
    if arguments.new:
        ledger.begin()
    facts = summary(ledger)
    if arguments.json:
        say_json(facts)
        return 0
    for scan in facts["scans"]:
        say(
            f"key {scan['key']} scan {scan['scan']}: sent {scan['times']} times, last {scan['last']} to "
            f"{scan['server']}, {scan['bundle']}, mode {scan['mode']}; different views {scan['views']}"
        )
    say(f"scans sent {len(facts['scans'])}, references of the bank used {facts['references_used']}")
    return 0
