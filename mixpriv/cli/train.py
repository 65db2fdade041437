"""``mixpriv``: train, export and evaluate. Needs the extra ``[train]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mixpriv.errors import MixprivError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mixpriv", description="Train, export and evaluate mixpriv networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a bundle's networks; resumes from the output folder")
    train.add_argument("config", help="a TOML file or a shipped config's name, such as brain-t1")
    train.add_argument("--network", choices=("segmenter", "extractor"), default="segmenter", help="default: segmenter")
    train.add_argument("--label-maps", type=Path, required=True, help="folder of *_dseg.nii.gz in FreeSurfer numbering")
    train.add_argument("-o", "--output", type=Path, required=True, help="folder of checkpoints and log")
    train.add_argument("--initial", type=Path, help="weights of an earlier run to start from")
    export = commands.add_parser("export", help="pack trained weights into a bundle (ONNX, with a parity check)")
    export.add_argument("config", help="the config that the runs were trained with")
    export.add_argument("--segmenter-run", type=Path, required=True, help="folder of the joint training")
    export.add_argument("--extractor-run", type=Path, required=True, help="folder of the extractor's training")
    export.add_argument("--version", required=True, help="the bundle's version, such as 1.0.0")
    export.add_argument("-o", "--output", type=Path, required=True, help="the bundle's folder")
    return parser


def _train(args: argparse.Namespace) -> None:
    from mixpriv.training.config import load_config

    config = load_config(args.config)
    if args.network == "segmenter":
        from mixpriv.training.joint import train_joint

        print(train_joint(config.segmenter, args.label_maps, args.output, args.initial))
    else:
        from mixpriv.training.extraction import train_extractor

        print(train_extractor(config.extractor, args.label_maps, args.output, args.initial))


def _export(args: argparse.Namespace) -> None:
    from mixpriv.export.pack import pack
    from mixpriv.training.config import load_config

    print(pack(load_config(args.config), args.segmenter_run, args.extractor_run, args.output, args.version))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        {"train": _train, "export": _export}[args.command](args)
    except MixprivError as error:
        print(f"mixpriv: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
