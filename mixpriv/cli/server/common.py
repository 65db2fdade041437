"""Options of all commands of ``mixpriv-server``."""

from __future__ import annotations

import argparse
import os

from mixpriv.bundle import DEFAULT_BUNDLE
from mixpriv.cli.options import a_name_or_folder


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Of what is served or asked, and how it is told."""
    parser.add_argument(
        "--bundle",
        type=a_name_or_folder,
        default=os.environ.get("MIXPRIV_BUNDLE") or DEFAULT_BUNDLE,
        help=f"shipped name or folder (default: $MIXPRIV_BUNDLE or {DEFAULT_BUNDLE})",
    )
    parser.add_argument("--log", choices=("text", "json"), default="text", help="lines for people or JSON lines")
