"""``mixpriv-client key``: where this installation's secret key is, and a copy of it."""

from __future__ import annotations

import argparse
from typing import Any

from mixpriv.cli.options import a_path
from mixpriv.cli.terminal import say

_KEY = (
    "All that is random comes from this key and the scan, so the same scan is always sent as the same bytes. "
    "Whoever has the key and a scan can repeat what was sent of it."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv-client``."""
    parser = commands.add_parser("key", help="this installation's secret key", description=_KEY)
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    path = actions.add_parser("path", help="print where the key is kept")
    path.set_defaults(run=_path)
    public = actions.add_parser("public", help="print the public key, by which your receipts can be checked")
    public.set_defaults(run=_public)
    export = actions.add_parser("export", help="save a copy of the key, readable by you alone")
    export.set_defaults(run=_export)
    export.add_argument("file", type=a_path, metavar="FILE", help="a new file; never overwritten")


def _path(arguments: argparse.Namespace) -> int:
    from mixpriv.key import key_path

    say(str(key_path()))
    return 0


def _public(arguments: argparse.Namespace) -> int:
    from mixpriv.client.receipt import public_key
    from mixpriv.key import load_or_create_key

    say(public_key(load_or_create_key()))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from mixpriv.key import load_or_create_key

    load_or_create_key().save(arguments.file)
    return 0
