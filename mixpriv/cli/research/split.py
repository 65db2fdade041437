"""``mixpriv split``: a bundle becomes a part for clients and a part for servers."""

from __future__ import annotations

import argparse
from typing import Any

from mixpriv.cli.options import a_name_or_folder, a_path
from mixpriv.cli.terminal import say


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser(
        "split",
        help="split a bundle: a part for clients, without the segmenter, and one for servers",
        description="Write DIR/client and DIR/server. Each suffices for its side; the client's has no segmenter.",
    )
    parser.add_argument("bundle", type=a_name_or_folder, metavar="BUNDLE", help="a shipped name or a folder")
    parser.add_argument("-o", "--output", type=a_path, required=True, metavar="DIR", help="a new folder")
    for side in ("client", "server"):
        parser.add_argument(
            f"--{side}-licence",
            type=a_path,
            metavar="FILE",
            help=f"licence of the {side}'s part; its first line is its name (default: the bundle's)",
        )


def run(args: argparse.Namespace) -> int:
    """Split and say where; returns the exit code."""
    from mixpriv.bundle import load_bundle
    from mixpriv.export.split import split

    given = {"client": args.client_licence, "server": args.server_licence}
    licences = {side: file for side, file in given.items() if file is not None}
    say(str(split(load_bundle(args.bundle), args.output, licences)))
    return 0
