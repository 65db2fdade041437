"""``mixpriv-client segment``: what is asked for, in which mode and by which server, and what is told of it."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from mixpriv.bundle_fields import CHECKS_BEFORE
from mixpriv.cli.client import PROGRAM
from mixpriv.cli.options import a_path, add_bundle_option, add_connection_options, connection
from mixpriv.cli.process import clean_up_undisturbed, require_memory
from mixpriv.cli.terminal import complain, say_json
from mixpriv.errors import InputError, printable
from mixpriv.memory import share_one_heap

if TYPE_CHECKING:
    from mixpriv.api import Client
    from mixpriv.bundle import Bundle
    from mixpriv.cli.client.jobs import Queue
    from mixpriv.protection.modes import Mode

_SEGMENT = (
    "Segment scans. Only a mixture of the extracted brain with a reference leaves this program; face, skull, "
    "reference, weight, key, names and header stay. Mixing is obfuscation, not encryption."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv-client``."""
    parser = commands.add_parser("segment", help="segment scans", description=_SEGMENT)
    parser.set_defaults(run=run)
    parser.add_argument(
        "scans", nargs="+", type=a_path, metavar="SCAN", help="T1-weighted head or crop: NIfTI, MGZ, DICOM; or a folder"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=a_path,
        metavar="OUT",
        help="label map, or a folder, made for several scans (default: SCAN's stem + _dseg.nii.gz)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    parser.add_argument("--series", metavar="N", help="number or UID of the DICOM series (default: the 3-D T1w)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="skip scans whose results are there, whole, and of the same scan and settings; several clients may do so "
        "at once and share the work",
    )
    parser.add_argument(
        "--report",
        type=a_path,
        metavar="FILE",
        help="a picture (.png), a page with a viewer (.html) or all results (.json)",
    )
    parser.add_argument(
        "--with-identifiers",
        action="store_true",
        help="a page may show the name, and a picture too the whole head",
    )
    parser.add_argument("--json", action="store_true", help="results as one JSON document on the standard output")
    parser.add_argument("--save-wire", type=a_path, metavar="DIR", help="keep exactly what was sent and received")
    parser.add_argument(
        "--receipt", type=a_path, metavar="FILE", help="a signed receipt of what was sent to whom, see 'verify'"
    )
    add_work_options(parser)


def add_work_options(parser: argparse.ArgumentParser) -> None:
    """How scans are worked on: networks, mode, server, threads."""
    parser.add_argument(
        "--one-by-one", action="store_true", help="prepare no scan while the one before is at the server: less memory"
    )
    parser.add_argument("--threads", metavar="N", help="use at most N processor threads (default: all we may use)")
    parser.add_argument(
        "--device", metavar="auto|cpu|cuda", help="where voxels are worked on (default: $MIXPRIV_DEVICE, or auto)"
    )
    parser.add_argument("--age", type=_age, metavar="YEARS", help="of the person: volumes are compared with that age's")
    parser.add_argument("--confidence", action="store_true", help="also write how sure each voxel's label is, %%")
    parser.add_argument(
        "--tissues", action="store_true", help="merge structures to tissues, for a bundle that says to which"
    )
    add_bundle_option(parser)
    _add_privacy(parser)
    _add_server(parser)


def _further(arguments: argparse.Namespace) -> dict[str, object]:
    """What else decides over a result."""
    asked = {"age": arguments.age, "confidence": arguments.confidence or None}
    return {"tissues": arguments.tissues, **{name: value for name, value in asked.items() if value is not None}}


def _age(text: str) -> float:
    """An age on the command line."""
    from mixpriv.quality.check import require_age

    try:
        age = float(text)
        require_age(age)
    except ValueError as error:
        said = (
            error if isinstance(error, InputError) else f"expected a number of years, got {printable(repr(text), 40)}"
        )
        raise argparse.ArgumentTypeError(str(said)) from None
    return age


def _add_privacy(parser: argparse.ArgumentParser) -> None:
    privacy = parser.add_argument_group("what the server sees")
    privacy.add_argument(
        "--mode",
        choices=("local", "shielded", "mixup", "none"),
        help="mixup: a mixture; shielded: less of the scan, and warped; none: the brain itself; local: nothing, the "
        "unmixer does without a server (default: none on this machine, with a server what the bundle recommends)",
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
        "--spread",
        action="store_true",
        help="the servers are of operators that do not collude: each gets one of the K mixtures, and none two",
    )
    privacy.add_argument(
        "--allow-repeat", action="store_true", help="send a server another view of a scan that one has seen, or many"
    )
    privacy.add_argument(
        "--send-anyway",
        action="append",
        default=[],
        choices=CHECKS_BEFORE,
        metavar="CHECK",
        help=f"send a scan to another machine although this check failed: {', '.join(CHECKS_BEFORE)}; may be repeated",
    )
    privacy.add_argument("--weight", type=float, help=argparse.SUPPRESS)  # the brain's share, for experiments


def _add_server(parser: argparse.ArgumentParser) -> None:
    server = parser.add_argument_group("server")
    server.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="or several, A:PORT,B:PORT, asked in turn, another when one fails; 'embedded': a server of our own on "
        "this machine, stopped at the end (default: $MIXPRIV_SERVER; else embedded for a mixture, and the network in "
        "this process for mode none)",
    )
    add_connection_options(server)


def run(arguments: argparse.Namespace) -> int:
    """Segment all scans of the command line; returns the first failure's exit code, or 0."""
    require_memory(PROGRAM)
    share_one_heap()
    from mixpriv.atomic import check_outputs, write_outputs
    from mixpriv.bundle import load_bundle
    from mixpriv.cli.client.outputs import common_table, plan
    from mixpriv.cli.client.run import Run
    from mixpriv.cohort.find import find_scans, told
    from mixpriv.cohort.table import check_table

    use_threads(arguments.threads)
    bundle = load_bundle(arguments.bundle)
    listing = find_scans(arguments.scans, bundle.modalities, arguments.output)
    report = arguments.report if arguments.report and arguments.report.suffix == ".json" else None
    with client_of(arguments, bundle, len(listing.scans)) as client:
        jobs = plan(arguments, listing.scans, client.mode.count)
        if report is not None:
            check_outputs([report], force=arguments.force)
        table = common_table(arguments, listing.scans)
        if table is not None:
            check_table(table)
        if listing.left_out:
            complain(PROGRAM, f"{len(jobs)} scans; left out: {told(listing.left_out)}")
        done = Run(PROGRAM, client, quiet=arguments.json)
        done.segment(jobs, queue_of(arguments, client))
        document = done.document
        clean_up_undisturbed()
    if table is not None:
        done.add_to(table)
    if arguments.json:
        with done.noted():
            say_json(document)
    if report is not None:
        with done.noted():
            write_outputs({report: json.dumps(document, indent=2).encode() + b"\n"}, force=arguments.force)
    return done.end()


def queue_of(arguments: argparse.Namespace, client: Client, program: str = PROGRAM) -> Queue:
    """The queue that the command line asks for."""
    from mixpriv.cli.client.jobs import Queue
    from mixpriv.cohort.record import settings_digest

    return Queue(
        client,
        force=arguments.force,
        ahead=not arguments.one_by_one,
        resume=arguments.resume,
        settings=settings_digest(client.bundle, client.mode, _further(arguments)),
        program=program,
    )


def use_threads(text: str | None) -> None:
    """Hear of ``--threads``; InputError if it is no number."""
    from mixpriv.threads import available_threads

    if text:
        if not text.isdecimal() or len(text) > 9 or int(text) < 1:
            raise InputError(f"--threads: expected a whole number from 1, got {text[:40]!r}")
        os.environ["MIXPRIV_THREADS"] = text  # heard by the kernels, the engines and an embedded server
    available_threads()


def client_of(arguments: argparse.Namespace, bundle: Bundle, scans: int) -> Client:
    """The client that the command line asks for; nothing is loaded or reached yet.

    Raises
    ------
    InputError
        options do not go together, or no folder is known for key and ledger.
    """
    from mixpriv.api import DEFAULT_TIMEOUT_S, EMBEDDED, Client
    from mixpriv.atomic import config_folder, data_folder

    mode = _mode(arguments)
    server = arguments.server or os.environ.get("MIXPRIV_SERVER") or None
    if mode is not None and not mode.count:
        if arguments.server or arguments.save_wire or arguments.receipt:
            raise InputError(f"mode {mode.name} sends nothing: expected no --server, --save-wire and --receipt")
        server = None
    if server is None and mode is not None and mode.count and mode.unmixes:
        server = EMBEDDED  # who asks for a mixture wants to see the whole way
    for option in ("save_wire", "receipt"):
        if server is None and getattr(arguments, option):
            raise InputError(f"without a server nothing is sent: expected no --{option.replace('_', '-')}")
    client = Client(
        bundle,
        server=server,
        mode=mode,
        device=arguments.device,
        scans=scans,
        spread=arguments.spread,
        allow_repeat=arguments.allow_repeat,
        send_anyway=arguments.send_anyway,
        tissues=arguments.tissues,
        **connection(arguments, timeout_s=DEFAULT_TIMEOUT_S),
    )
    if client.mode.count and (client.mode.unmixes or server is not None):
        config_folder(), data_folder()  # before any work: one of the two may not be known here
    return client


def _mode(arguments: argparse.Namespace) -> Mode | None:
    """The mode that was asked for; what goes with references and weight is a mixture."""
    from mixpriv.protection.modes import named

    asked = arguments.references != 1 or arguments.references_from != "generator" or arguments.weight is not None
    name = arguments.mode or ("mixup" if asked else None)
    if name is None:
        return None
    return named(name, references=arguments.references, source=arguments.references_from, weights=arguments.weight)
