"""``mixpriv-client info``: versions, a bundle, and where things are kept."""

from __future__ import annotations

import argparse
from typing import Any

from mixpriv import __version__
from mixpriv.cli.options import a_path, add_bundle_option
from mixpriv.cli.terminal import say, say_json


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv-client``."""
    parser = commands.add_parser("info", help="versions, bundle and where things are kept")
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--color-tables",
        type=a_path,
        metavar="DIR",
        help="write colours for FreeView, 3D Slicer and ITK-SNAP",
    )
    add_bundle_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Tell versions, the bundle and where things are kept."""
    from mixpriv import _native, cuda
    from mixpriv.atomic import make_folder, write_outputs
    from mixpriv.bundle import load_bundle, shipped_bundles
    from mixpriv.client.bank import Bank
    from mixpriv.client.colortable import color_tables
    from mixpriv.client.ledger import ledger_path
    from mixpriv.key import key_path
    from mixpriv.threads import available_threads

    bundle = load_bundle(arguments.bundle)
    if arguments.color_tables:
        write_outputs(color_tables(make_folder(arguments.color_tables), bundle), force=True)
    facts: dict[str, Any] = {
        "version": __version__,
        "instruction set": _native.isa(),
        "threads": available_threads(),
        "cuda": cuda.summary(),
        "bundles": list(shipped_bundles()),
        "bundle": f"{bundle.name} {bundle.version}",
        "part": bundle.part,
        "fingerprint": bundle.fingerprint,
        "classes": list(bundle.classes),
        "modalities": list(bundle.modalities),
        "spacing_mm": bundle.spacing_mm,
        "licence": bundle.licence,
        "key": str(key_path()),
        "ledger": str(ledger_path()),
        "reference bank": str(Bank.of(bundle).folder),
    }
    if arguments.json:
        say_json({name.replace(" ", "_"): fact for name, fact in facts.items()})
    else:
        for name, fact in facts.items():
            say(f"{name:<16} {', '.join(fact) if isinstance(fact, list) else fact}")
    return 0
