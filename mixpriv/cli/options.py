"""What the commands' options have in common: one line for bad usage, paths, how to connect to a server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

from mixpriv import __version__
from mixpriv.bundle import DEFAULT_BUNDLE
from mixpriv.cli.terminal import say_text
from mixpriv.errors import InputError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from mixpriv.wire.tls import TlsOptions
    from mixpriv.wire.token import Token


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line each and whose help is an output like any other."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see '{self.prog} --help'")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        say_text(message.removesuffix("\n"))


def a_path(text: str) -> Path:
    """A file or folder on the command line: an empty text, as of a variable that is not set, would be this folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a file or folder, got {text!r}")
    return Path(text)


def a_name_or_folder(text: str) -> str:
    """Like `a_path`, of what may also be a name that we know."""
    a_path(text)
    return text


def add_program_options(parser: argparse.ArgumentParser) -> None:
    """What every program can tell of itself: its version, and a script by which a shell completes its options."""
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print a script by which this shell completes commands, options and files",
    )


class _PrintCompletion(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        import shtab

        _complete_files(parser, shtab.FILE)
        say_text(shtab.complete(parser, str(values)).rstrip("\n"))
        parser.exit()


def _complete_files(parser: argparse.ArgumentParser, how: Any) -> None:
    """Let the shell offer files and folders for all options that take one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in set(action.choices.values()):
                _complete_files(command, how)
        elif action.type in (a_path, a_name_or_folder):
            action.complete = how  # type: ignore[attr-defined]


def add_bundle_option(parser: argparse.ArgumentParser) -> None:
    """Which trained networks."""
    parser.add_argument(
        "--bundle",
        type=a_name_or_folder,
        default=DEFAULT_BUNDLE,
        metavar="NAME",
        help=f"trained networks, name or folder ({DEFAULT_BUNDLE})",
    )


def add_connection_options(group: Any) -> None:
    """How long a server is waited for, who it must be, and who we are."""
    group.add_argument("--timeout", type=seconds, metavar="SECONDS", help="longest wait for one answer (default 120)")
    group.add_argument("--insecure", action="store_true", help="no TLS to another machine")
    group.add_argument("--tls-ca", type=a_path, metavar="PEM", help="trust servers certified by this authority")
    group.add_argument("--tls-cert", type=a_path, metavar="PEM", help="our own certificate, with --tls-key")
    group.add_argument("--tls-key", type=a_path, metavar="PEM", help="our own private key")
    group.add_argument(
        "--token-file", type=a_path, metavar="FILE", help="holds the token that the server asks for (or $MIXPRIV_TOKEN)"
    )


class Connection(TypedDict):
    """What `GrpcSegmenter` and `ServerPool` are told beside an address."""

    timeout_s: float
    tls: TlsOptions | None
    insecure: bool
    token: Token | None


def connection(given: argparse.Namespace, *, timeout_s: float) -> Connection:
    """How a command line wants to connect; `timeout_s` where it does not say.

    Raises
    ------
    InputError
        the token is not usable.
    """
    from mixpriv.wire.tls import TlsOptions
    from mixpriv.wire.token import Token

    tls = TlsOptions(given.tls_ca, given.tls_cert, given.tls_key)
    return {
        "timeout_s": given.timeout or timeout_s,
        "tls": None if tls == TlsOptions() else tls,
        "insecure": given.insecure,
        "token": Token.load(given.token_file),
    }


def seconds(text: str) -> float:
    """A time on the command line, more than 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0, got {text!r}")
    return number
