"""``mixpriv``: train, pack, split, export, evaluate, audit. Needs the extra ``[train]``, ``export`` also ``[gpu]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from mixpriv.cli import process
from mixpriv.cli.options import Parser, add_program_options
from mixpriv.cli.research import audit, evaluate, export, extraction, front, pack, pool, quality, split, train

PROGRAM = "mixpriv"

_COMMANDS = {
    "train": train, "pack": pack, "split": split, "export": export, "evaluate": evaluate, "extraction": extraction,
    "quality": quality, "pool": pool, "front": front, "audit": audit,
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Train, pack, split, export and evaluate mixpriv networks.")
    add_program_options(parser)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in _COMMANDS.values():
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return process.run(PROGRAM, partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    code: int = _COMMANDS[args.command].run(args)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
