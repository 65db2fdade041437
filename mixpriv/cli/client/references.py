"""``mixpriv-client references``: a bank of the user's own scans to mix with."""

from __future__ import annotations

import argparse
from typing import Any

from mixpriv.cli.client import PROGRAM
from mixpriv.cli.options import a_path, add_bundle_option
from mixpriv.cli.process import require_memory
from mixpriv.cli.terminal import complain, say, say_json

_REFERENCES = (
    "A bank of your own labelled scans to mix with. Each is used for one scan at most. They are scans of real people: "
    "a mixture shows both."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv-client``."""
    parser = commands.add_parser("references", help="your own reference scans", description=_REFERENCES)
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add a labelled scan to the bank")
    add.set_defaults(run=_add)
    add.add_argument("image", type=a_path, metavar="IMAGE", help="T1-weighted head or crop")
    add.add_argument("labels", type=a_path, metavar="LABELS", help="its label map, with the bundle's label values")
    add_bundle_option(add)
    listing = actions.add_parser("list", help="list the bank")
    listing.set_defaults(run=_list)
    listing.add_argument("--json", action="store_true", help="as JSON")
    add_bundle_option(listing)


def _add(arguments: argparse.Namespace) -> int:
    require_memory(PROGRAM)
    from mixpriv.bundle import load_bundle
    from mixpriv.bundle_files import require_side
    from mixpriv.client.bank import Bank
    from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
    from mixpriv.imaging.volume import load_volume
    from mixpriv.key import load_or_create_key

    bundle = load_bundle(arguments.bundle)
    require_side(bundle, "client")
    scan, labels = load_volume(arguments.image, bundle.modalities), load_volume(arguments.labels)
    for volume in (scan, labels):
        for warning in volume.warnings:
            complain(PROGRAM, f"warning: {volume.name}: {warning}")
    say(Bank.of(bundle).add(scan, labels, load_preprocessor(bundle), bundle, load_or_create_key()))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from mixpriv.bundle import load_bundle
    from mixpriv.client.bank import Bank
    from mixpriv.client.ledger import Ledger

    spent = Ledger().spent()
    items = [{"name": name, "used": name in spent} for name in Bank.of(load_bundle(arguments.bundle)).names()]
    if arguments.json:
        say_json(items)
    else:
        for item in items:
            say(f"{item['name']} {'used' if item['used'] else 'unused'}")
    return 0
