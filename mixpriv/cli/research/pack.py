"""``mixpriv pack``: trained weights become a bundle."""

from __future__ import annotations

import argparse
from typing import Any

from mixpriv.cli.options import a_path
from mixpriv.cli.terminal import say


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser("pack", help="pack trained weights into a bundle (ONNX, with a parity check)")
    parser.add_argument("config", help="the config that the runs were trained with")
    parser.add_argument("--variant", metavar="NAME", help="the config's [variants.NAME], if the run is of that")
    parser.add_argument("--segmenter-run", type=a_path, required=True, help="folder of the joint training, or a bundle")
    parser.add_argument(
        "--extractor-run", type=a_path, help="folder of its training, or a bundle; crops and stripped need none"
    )
    parser.add_argument(
        "--local-run", type=a_path, help="folder of the training of mode local's network (without: no such mode)"
    )
    parser.add_argument(
        "--data",
        type=a_path,
        help="the training data: how alike to strangers shielded mixtures are is measured",
    )
    parser.add_argument("--version", required=True, help="the bundle's version, such as 1.0.0")
    parser.add_argument("-o", "--output", type=a_path, required=True, help="the bundle's folder")


def run(args: argparse.Namespace) -> int:
    """Pack and say where; returns the exit code."""
    from mixpriv.export.pack import pack
    from mixpriv.training.config import load_config

    config = load_config(args.config)
    if args.variant is not None:
        config = config.as_variant(args.variant)
    runs = args.segmenter_run, args.extractor_run
    say(str(pack(config, *runs, args.output, args.version, args.data, local=args.local_run)))
    return 0
