"""``mixpriv-server --profile front``: for several sites, behind Envoy; and the check of the log that it keeps."""

from __future__ import annotations

import argparse
import socket
from typing import TYPE_CHECKING, Any

from mixpriv.bundle import Bundle
from mixpriv.cli.options import a_path
from mixpriv.errors import InputError
from mixpriv.server.events import EventLog

if TYPE_CHECKING:
    from mixpriv.server.fronted import FrontOptions

_NEEDED = ("tls_cert", "tls_key", "tls_clients", "revoked", "sites")


def add_options(group: Any) -> None:
    """Add what the profile front needs beside certificates."""
    group.add_argument("--revoked", type=a_path, metavar="PEM", help="revocation list of --tls-clients")
    group.add_argument("--sites", type=a_path, metavar="TOML", help="the sites and their quotas")
    group.add_argument("--request-log", type=a_path, metavar="FILE", help="gets a line of each call")
    group.add_argument("--write-front", type=a_path, metavar="DIR", help="write Envoy's configuration to DIR and exit")
    group.add_argument(
        "--triton", metavar="HOST:PORT", help="the tritonserver behind it on this machine, with --write-front"
    )


def add_parser(commands: Any) -> None:
    """Add the command that checks a log to the parser of ``mixpriv-server``."""
    parser = commands.add_parser(
        "verify-log",
        help="find changed or missing lines of a front's log",
        description="Follow the chain of a front's log. Exit codes: 0 it is whole, 2 lines are changed or missing, "
        "or it cannot be read.",
    )
    parser.add_argument("file", type=a_path, metavar="FILE", help="the log; FILE.head must be beside it")
    parser.add_argument("--noted", metavar="HASH", help="a hash, kept elsewhere, that a line must have")
    parser.add_argument("--log", choices=("text", "json"), default="text", help="lines for people or JSON lines")
    parser.set_defaults(run=_verify)


def options_of(args: argparse.Namespace) -> FrontOptions:
    """What the options say of the front.

    Raises
    ------
    InputError
        one is missing, or a file is not what it must be.
    """
    from mixpriv.server.envoy import Certificates
    from mixpriv.server.fronted import FrontOptions
    from mixpriv.server.sites import load_sites

    needed = (*_NEEDED, "triton" if args.write_front else "request_log")
    missing = [f"--{name.replace('_', '-')}" for name in needed if getattr(args, name) is None]
    if missing:
        raise InputError(f"--profile front: expected {', '.join(missing)}")
    if args.token_file or args.probe_cert or args.insecure:
        raise InputError("--profile front: sites are known by certificates alone, and it needs none for its own probes")
    certificates = Certificates(args.tls_cert, args.tls_key, args.tls_clients, args.revoked)
    metrics = args.metrics and (_address(args.metrics[0]), args.metrics[1])
    sites = load_sites(args.sites)
    return FrontOptions(_address(args.host), args.port, certificates, sites, args.request_log, metrics)


def write(bundle: Bundle, args: argparse.Namespace, log: EventLog) -> None:
    """Write Envoy's configuration, for a front that is not started by this command."""
    from mixpriv.atomic import private_folder
    from mixpriv.server.envoy import write_front
    from mixpriv.wire.address import Address
    from mixpriv.wire.contract import SegmenterContract

    options, triton = options_of(args), Address.parse(args.triton)
    if not triton.is_local or triton.host == "localhost":  # Envoy wants an address
        raise InputError(
            f"--triton {args.triton}: expected an address of this machine, such as 127.0.0.1:8001: "
            "what passes between Envoy and Triton is plain text"
        )
    folder = private_folder(args.write_front.resolve())
    front = options.front(SegmenterContract.of(bundle), triton.text, folder)
    write_front(front, options.certificates)
    log.tell("written", f"wrote {folder / 'envoy.json'} for {len(options.sites)} sites")


def _verify(args: argparse.Namespace, log: EventLog) -> int:
    from mixpriv.server.request_log import verify

    head, findings = verify(args.file, args.noted)
    for finding in findings:
        log.tell("damaged", f"{args.file}: {finding}", trouble=True)
    if not findings:
        log.tell("whole", f"{args.file}: {head.count} records, the last is {head.hash}", hash=head.hash)
    return InputError.exit_code if findings else 0


def _address(host: str) -> str:
    """The address of a host: Envoy listens on no name."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise InputError(f"{host}: not an address of this machine ({error.strerror})") from None
