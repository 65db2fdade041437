"""``mixpriv-client``: the command of the trusted side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from mixpriv import __version__
from mixpriv.bundle import DEFAULT_BUNDLE
from mixpriv.cli import process
from mixpriv.cli.options import Parser, a_name_or_folder, a_path, add_connection_options
from mixpriv.cli.terminal import complain, say, say_json
from mixpriv.errors import InputError
from mixpriv.memory import CLIENT_MIB, lack_of_memory

PROGRAM = "mixpriv-client"
_EPILOG = """\
exit codes: 0 done, 1 a bug, 2 bad usage, bad input or too little memory, 3 server unreachable, busy, timed out or
refusing us, 4 server serves another network, 5 output cannot be written, 130 interrupted, 129, 131, 143, 152 ended by
another signal"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return process.run(PROGRAM, partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    code: int = arguments.run(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        description="Segment scans on a server that sees only a mixture of the brain with a reference.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_segment(commands)
    _add_references(commands)
    _add_ledger(commands)
    _add_info(commands)
    _add_key(commands)
    return parser


def _add_segment(commands: Any) -> None:
    parser = commands.add_parser("segment", help="segment scans", description=_SEGMENT)
    parser.set_defaults(run=_run_segment)
    parser.add_argument(
        "scans", nargs="+", type=a_path, metavar="SCAN", help="T1-weighted head or crop, .nii or .nii.gz"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=a_path,
        metavar="OUT",
        help="label map, or a folder (default: SCAN's stem + _dseg.nii.gz)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    parser.add_argument("--report", type=a_path, metavar="FILE", help="a picture (.png) or all results (.json)")
    parser.add_argument("--json", action="store_true", help="results as one JSON document on the standard output")
    parser.add_argument("--save-wire", type=a_path, metavar="DIR", help="keep exactly what was sent and received")
    parser.add_argument(
        "--one-by-one", action="store_true", help="prepare no scan while the one before is at the server: less memory"
    )
    parser.add_argument("--threads", metavar="N", help="use at most N processor threads (default: all we may use)")
    parser.add_argument(
        "--device", metavar="auto|cpu|cuda", help="where voxels are worked on (default: $MIXPRIV_DEVICE, or auto)"
    )
    _add_bundle(parser)
    privacy = parser.add_argument_group("what the server sees")
    privacy.add_argument(
        "--mode",
        choices=("local", "shielded", "mixup", "none"),
        default="mixup",
        help="mixup: a mixture (default); shielded: less of the scan, and bent; none: the brain itself; local: "
        "nothing, the unmixer does without a server",
    )
    privacy.add_argument(
        "--references",
        type=int,
        default=1,
        metavar="K",
        help="mixtures sent and averaged (default 1): more accuracy, less privacy",
    )
    privacy.add_argument(
        "--references-from",
        choices=("generator", "bank"),
        default="generator",
        help="drawn for this scan (default), or your own scans added by 'references add', each used once",
    )
    privacy.add_argument(
        "--allow-repeat", action="store_true", help="send a server another view of a scan that one has seen, or many"
    )
    privacy.add_argument("--weight", type=float, help=argparse.SUPPRESS)  # the brain's share, for experiments
    _add_server(parser)


def _add_server(parser: argparse.ArgumentParser) -> None:
    server = parser.add_argument_group("server")
    server.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="or several, A:PORT,B:PORT, asked in turn, another when one fails; default: $MIXPRIV_SERVER, or a server "
        "of our own on this machine, stopped at the end",
    )
    add_connection_options(server)


def _add_references(commands: Any) -> None:
    parser = commands.add_parser("references", help="your own reference scans", description=_REFERENCES)
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add a labelled scan to the bank")
    add.set_defaults(run=_run_references_add)
    add.add_argument("image", type=a_path, metavar="IMAGE", help="T1-weighted head or crop")
    add.add_argument("labels", type=a_path, metavar="LABELS", help="its label map, with the bundle's label values")
    _add_bundle(add)
    listing = actions.add_parser("list", help="list the bank")
    listing.set_defaults(run=_run_references_list)
    listing.add_argument("--json", action="store_true", help="as JSON")
    _add_bundle(listing)


def _add_ledger(commands: Any) -> None:
    parser = commands.add_parser("ledger", help="what was sent of which scan, and references used")
    parser.set_defaults(run=_run_ledger)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--new", action="store_true", help="begin an empty one after the old one was lost")


def _add_info(commands: Any) -> None:
    parser = commands.add_parser("info", help="versions, bundle and where things are kept")
    parser.set_defaults(run=_run_info)
    parser.add_argument("--json", action="store_true", help="as JSON")
    _add_bundle(parser)


def _add_key(commands: Any) -> None:
    parser = commands.add_parser("key", help="this installation's secret key", description=_KEY)
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    path = actions.add_parser("path", help="print where the key is kept")
    path.set_defaults(run=_run_key_path)
    export = actions.add_parser("export", help="save a copy of the key, readable by you alone")
    export.set_defaults(run=_run_key_export)
    export.add_argument("file", type=a_path, metavar="FILE", help="a new file; never overwritten")


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bundle",
        type=a_name_or_folder,
        default=DEFAULT_BUNDLE,
        metavar="NAME",
        help=f"trained networks, name or folder ({DEFAULT_BUNDLE})",
    )


_SEGMENT = (
    "Segment scans. Only a mixture of the extracted brain with a reference leaves this program; face, skull, "
    "reference, weight, key, names and header stay. Mixing is obfuscation, not encryption."
)
_REFERENCES = (
    "A bank of your own labelled scans to mix with. Each is used for one scan at most. They are scans of real people: "
    "a mixture shows both."
)
_KEY = (
    "All that is random comes from this key and the scan, so the same scan is always sent as the same bytes. "
    "Whoever has the key and a scan can repeat what was sent of it."
)


# The commands import what they need when they run, so that --help answers at once.


def _require_memory() -> None:
    lack = lack_of_memory(CLIENT_MIB)
    if lack:
        raise InputError(f"{PROGRAM} {lack}")


def _run_segment(arguments: argparse.Namespace) -> int:
    _require_memory()
    from mixpriv.cli.client.segment import run

    return run(arguments)


def _run_references_add(arguments: argparse.Namespace) -> int:
    _require_memory()
    from mixpriv.bundle import load_bundle
    from mixpriv.client.bank import Bank
    from mixpriv.imaging.preprocess.preprocessor import load_conformer
    from mixpriv.imaging.volume import load_volume
    from mixpriv.key import load_or_create_key

    bundle = load_bundle(arguments.bundle)
    scan, labels = load_volume(arguments.image, bundle.modalities), load_volume(arguments.labels)
    for volume in (scan, labels):
        for warning in volume.warnings:
            complain(PROGRAM, f"warning: {volume.name}: {warning}")
    say(Bank.of(bundle).add(scan, labels, load_conformer(bundle), bundle, load_or_create_key()))
    return 0


def _run_references_list(arguments: argparse.Namespace) -> int:
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


def _run_ledger(arguments: argparse.Namespace) -> int:
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


def _run_info(arguments: argparse.Namespace) -> int:
    from mixpriv import _native, cuda
    from mixpriv.bundle import load_bundle, shipped_bundles
    from mixpriv.client.bank import Bank
    from mixpriv.client.ledger import ledger_path
    from mixpriv.key import key_path
    from mixpriv.threads import available_threads

    bundle = load_bundle(arguments.bundle)
    facts: dict[str, Any] = {
        "version": __version__,
        "instruction set": _native.isa(),
        "threads": available_threads(),
        "cuda": cuda.summary(),
        "bundles": list(shipped_bundles()),
        "bundle": f"{bundle.name} {bundle.version}",
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


def _run_key_path(arguments: argparse.Namespace) -> int:
    from mixpriv.key import key_path

    say(str(key_path()))
    return 0


def _run_key_export(arguments: argparse.Namespace) -> int:
    from mixpriv.key import load_or_create_key

    load_or_create_key().save(arguments.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
