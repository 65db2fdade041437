"""``mixpriv-server``: serve a bundle's segmenter on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mixpriv.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from mixpriv.errors import InputError, MixprivError


class _StopRequested(BaseException):
    """SIGINT or SIGTERM came: the usual end of a server."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mixpriv-server`` and return its exit code."""
    args = _parser().parse_args(argv)
    try:
        bundle = load_bundle(args.bundle)
        if args.verify_repository is not None:
            _verify(bundle, args.verify_repository, args.platform, args.export)
        elif args.write_repository is not None:
            _write(bundle, args.write_repository, args.platform, args.export)
        else:
            _serve(bundle, args.host, args.port, args.threads)
    except _StopRequested:
        print("mixpriv-server: stopped", flush=True)
    except MixprivError as error:
        print(f"mixpriv-server: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _write(bundle: Bundle, folder: Path, platform: str, export: Path | None) -> None:
    from mixpriv.server.repository import write_repository

    write_repository(bundle, folder, platform=platform, export=export)
    print(f"mixpriv-server: wrote {bundle.name} {bundle.version} to {folder}")


def _verify(bundle: Bundle, folder: Path, platform: str, export: Path | None) -> None:
    from mixpriv.server.repository import verify_repository

    verify_repository(bundle, folder, platform=platform, export=export)
    print(f"mixpriv-server: {folder} holds {bundle.name} {bundle.version} as it is written")


def _serve(bundle: Bundle, host: str, port: int, threads: int | None) -> NoReturn:
    from mixpriv.server.triton import TritonServer
    from mixpriv.wire.address import Address

    if not Address(host, host).is_local:
        raise InputError(
            f"--host {host}: expected a loopback address; to serve other machines, copy a model repository "
            "(--write-repository) to a tritonserver container"
        )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    with TritonServer(bundle, host=host, port=port, threads=threads) as server:
        print(f"mixpriv-server: {bundle.name} {bundle.version} ready on {server.address}", flush=True)
        server.wait()


def _stop(number: int, frame: object) -> NoReturn:
    # A second signal must not disturb the end that the first began.
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise _StopRequested


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mixpriv-server",
        description="Serve a bundle's segmenter to clients on this machine, until SIGINT or SIGTERM.",
        epilog="Exit codes: 0 stopped or written, 2 bad usage, 3 the server cannot start or ended by itself, "
        "5 the repository cannot be written.",
    )
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help="shipped name or folder (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8001, type=_port, help="TCP port, 0 for any free one (default: %(default)s)")
    parser.add_argument("--threads", type=_count, metavar="N", help="inference threads (default: all that are allowed)")
    parser.add_argument(
        "--write-repository", type=Path, metavar="DIR", help="write a complete model repository to DIR and exit"
    )
    parser.add_argument(
        "--verify-repository", type=Path, metavar="DIR", help="refuse a written repository that was changed, and exit"
    )
    parser.add_argument(
        "--platform",
        choices=("python", "tensorrt", "openvino", "onnxruntime"),
        default="python",
        help="how Triton runs a repository's network (default: %(default)s)",
    )
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="what mixpriv export wrote, for --platform tensorrt or openvino"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**16:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
