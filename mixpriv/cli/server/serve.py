"""``mixpriv-server`` itself: serve a bundle's segmenter, or write and verify what Triton serves elsewhere."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.cli.options import a_path
from mixpriv.cli.server import front
from mixpriv.cli.server.common import add_common_options
from mixpriv.errors import InputError
from mixpriv.server.events import EventLog

if TYPE_CHECKING:
    from mixpriv.server.access import Access
    from mixpriv.server.triton import TritonServer

_STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopRequested(BaseException):
    """One of the signals came by which a server is stopped."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is served, where and how, to the parser of ``mixpriv-server``."""
    add_common_options(parser)
    parser.set_defaults(run=run)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8001, type=_port, help="TCP port, 0 for any free one (default: %(default)s)")
    parser.add_argument("--threads", type=_count, metavar="N", help="inference threads (default: all that are allowed)")
    parser.add_argument(
        "--restarts", type=_number, default=5, metavar="N", help="start a lost server again, N times in a row (5)"
    )
    parser.add_argument(
        "--metrics", type=_endpoint, metavar="HOST:PORT", help="Prometheus metrics, in plain text (default: none)"
    )
    parser.add_argument(
        "--write-repository", type=a_path, metavar="DIR", help="write a complete model repository to DIR and exit"
    )
    parser.add_argument(
        "--verify-repository", type=a_path, metavar="DIR", help="refuse a written repository that was changed, and exit"
    )
    parser.add_argument(
        "--platform",
        choices=("python", "tensorrt", "openvino", "onnxruntime"),
        default="python",
        help="how Triton runs a repository's network (default: %(default)s)",
    )
    parser.add_argument(
        "--export", type=a_path, metavar="DIR", help="what mixpriv export wrote, for --platform tensorrt or openvino"
    )
    _add_access(parser.add_argument_group("who is served"))


def _add_access(group: Any) -> None:
    group.add_argument(
        "--profile",
        choices=("embedded", "node", "front"),
        default="embedded",
        help="embedded: this machine (default); node: other machines, by mutual TLS; front: several sites, by Envoy",
    )
    group.add_argument("--tls-cert", type=a_path, metavar="PEM", help="the server's certificate, with --tls-key")
    group.add_argument("--tls-key", type=a_path, metavar="PEM", help="its private key")
    group.add_argument(
        "--tls-clients", type=a_path, metavar="PEM", help="serve clients certified by this authority only"
    )
    group.add_argument(
        "--probe-cert", type=a_path, metavar="PEM", help="a client's certificate by which the server asks itself"
    )
    group.add_argument("--probe-key", type=a_path, metavar="PEM", help="its private key")
    group.add_argument(
        "--token-file", type=a_path, metavar="FILE", help="holds a token that clients must tell (or $MIXPRIV_TOKEN)"
    )
    group.add_argument("--insecure", action="store_true", help="profile node without TLS or without certified clients")
    front.add_options(group)


def run(args: argparse.Namespace, log: EventLog) -> int:
    """Do what the options say; a server runs until a signal ends it, by `StopRequested`."""
    bundle = load_bundle(args.bundle)
    if args.verify_repository is not None:
        _verify(bundle, args, log)
    elif args.write_repository is not None:
        _write(bundle, args, log)
    elif args.write_front is not None:
        front.write(bundle, args, log)
    else:
        _serve(bundle, args, log)
    return 0


def _write(bundle: Bundle, args: argparse.Namespace, log: EventLog) -> None:
    from mixpriv.server.repository import write_repository

    write_repository(bundle, args.write_repository, platform=args.platform, export=args.export)
    log.tell("written", f"wrote {bundle.name} {bundle.version} to {args.write_repository}")


def _verify(bundle: Bundle, args: argparse.Namespace, log: EventLog) -> None:
    from mixpriv.server.repository import verify_repository

    folder = args.verify_repository
    verify_repository(bundle, folder, platform=args.platform, export=args.export)
    log.tell("verified", f"{folder} holds {bundle.name} {bundle.version} as it is written")


def _serve(bundle: Bundle, args: argparse.Namespace, log: EventLog) -> NoReturn:
    import resource

    from mixpriv.server.supervisor import keep_running

    make = _maker(bundle, args, log)
    for number in _STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
            signal.signal(number, _stop)
    # A core would hold the tokens.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    keep_running(make, log, restarts=args.restarts)


def _maker(bundle: Bundle, args: argparse.Namespace, log: EventLog) -> Callable[[], TritonServer]:
    """What makes a server as the options say; each listens at the same port."""
    from mixpriv.server.surroundings import free_port
    from mixpriv.server.triton import TritonServer

    if args.profile == "front":
        from mixpriv.server.fronted import FrontedServer

        options = front.options_of(args)
        options = replace(options, port=free_port(options.host, args.port))
        return lambda: FrontedServer(bundle, options, log, threads=args.threads)
    if any(getattr(args, name) is not None for name in ("revoked", "sites", "request_log")):
        raise InputError("--revoked, --sites and --request-log: expected --profile front with them")
    access = _access(args)
    port = free_port(args.host, args.port)
    return lambda: TritonServer(
        bundle, host=args.host, port=port, access=access, metrics=args.metrics, threads=args.threads
    )


def _access(args: argparse.Namespace) -> Access:
    """To whom the server answers: what the profile demands must be there.

    Raises
    ------
    InputError
        the address, or what is asked of clients, is less than the profile's.
    """
    from mixpriv.server.access import Access, ServerTls
    from mixpriv.wire.address import Address
    from mixpriv.wire.token import Token

    for one, other in (("tls_cert", "tls_key"), ("probe_cert", "probe_key")):
        if (getattr(args, one) is None) != (getattr(args, other) is None):
            raise InputError(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} belong together")
    if args.tls_cert is None and (args.tls_clients or args.probe_cert):
        raise InputError("--tls-clients and --probe-cert: expected --tls-cert and --tls-key with them")
    local = Address(args.host, args.host).is_local
    if args.profile == "embedded" and not local:
        raise InputError(f"--host {args.host}: expected a loopback address, or --profile node to serve other machines")
    if args.profile == "embedded" and args.metrics and not Address(args.metrics[0], args.metrics[0]).is_local:
        raise InputError(f"--metrics {args.metrics[0]}: expected a loopback address, or --profile node")
    if args.profile == "node" and args.tls_clients is None and not args.insecure:
        raise InputError("--profile node: expected --tls-cert, --tls-key and --tls-clients, or --insecure")
    tls = None
    if args.tls_cert is not None:
        probe = None if args.probe_cert is None else (args.probe_cert, args.probe_key)
        tls = ServerTls(args.tls_cert, args.tls_key, args.tls_clients, probe)
    token = Token.load(args.token_file)
    if token is not None and tls is None and not local:
        raise InputError("--token-file: expected TLS with it, since plain text would give the token away")
    return Access(tls, token)


def _stop(number: int, frame: object) -> NoReturn:
    # A second signal must not disturb the end that the first began.
    for other in _STOPPING:
        signal.signal(other, signal.SIG_IGN)
    raise StopRequested


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**16:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text!r}")
    return int(text)


def _endpoint(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return host.strip("[]"), _port(port)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)
