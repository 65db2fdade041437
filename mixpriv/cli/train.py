"""``mixpriv``: train, export and evaluate. Needs the extra ``[train]``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mixpriv.cli.audit import add_parser as add_audit
from mixpriv.cli.audit import run as run_audit
from mixpriv.errors import InputError, MixprivError

if TYPE_CHECKING:
    from mixpriv.bundle import Bundle
    from mixpriv.training.config import TrainingConfig
    from mixpriv.training.evaluation.methods import Method, Methods
    from mixpriv.training.evaluation.metrics import Score
    from mixpriv.wire.transport import Segmenter


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mixpriv", description="Train, export and evaluate mixpriv networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a bundle's networks; resumes from the output folder")
    train.add_argument("config", help="a TOML file or a shipped config's name, such as brain-t1")
    train.add_argument("--network", choices=("segmenter", "extractor", "control"), default="segmenter")
    train.add_argument("--fold", type=int, default=0, help="the fold held out, of a config that has folds (0)")
    train.add_argument("--steps", type=int, metavar="N", help="in place of the config's, as for a run with --initial")
    train.add_argument("--proxy", metavar="NAME=STRENGTH", help="S for a method to compare with: warp=MM or noise=STD")
    train.add_argument(
        "--data", type=Path, required=True, help="folder of *_dseg.nii.gz in FreeSurfer numbering, or of MSD crops"
    )
    train.add_argument("-o", "--output", type=Path, required=True, help="folder of checkpoints and log")
    train.add_argument("--initial", type=Path, help="start from the weights of a run or of a bundle")
    export = commands.add_parser("export", help="pack trained weights into a bundle (ONNX, with a parity check)")
    export.add_argument("config", help="the config that the runs were trained with")
    export.add_argument("--segmenter-run", type=Path, required=True, help="folder of the joint training, or a bundle")
    export.add_argument("--extractor-run", type=Path, help="folder of its training, or a bundle; crops need none")
    export.add_argument("--version", required=True, help="the bundle's version, such as 1.0.0")
    export.add_argument("-o", "--output", type=Path, required=True, help="the bundle's folder")
    evaluate = commands.add_parser("evaluate", help="accuracy on labelled scans, every method beside its controls")
    evaluate.add_argument("config", help="the config that the bundle was trained with")
    evaluate.add_argument("--data", type=Path, required=True, help="BIDS folder of heads, or MSD folder of crops")
    evaluate.add_argument("--bundle", help="a shipped name or a folder (the config's name)")
    evaluate.add_argument("--subjects", nargs="+", default=[], help="default: all heads, or the crops held out")
    evaluate.add_argument("--fold", type=int, help="the subjects of this fold, of a config that has folds")
    evaluate.add_argument("--split", default="given", help="what the scans are called in the table")
    evaluate.add_argument(
        "--weights", type=float, nargs="+", default=[0.9, 0.7, 0.5, 0.3, 0.1], metavar="A", help="fixed weights tried"
    )
    evaluate.add_argument("--fused", type=int, nargs="+", default=[3, 5, 10], metavar="K", help="references averaged")
    evaluate.add_argument("--control", type=Path, metavar="RUN", help="run folder of a network of D's size")
    evaluate.add_argument(
        "--proxies",
        nargs="+",
        default=[],
        metavar="NAME=STRENGTH:RUN",
        help="other methods, each with its S's run folder",
    )
    evaluate.add_argument("--in-process", action="store_true", help="the same network without a server: faster")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument(
        "-o", "--output", type=Path, required=True, help="markdown file; CSV and plot are put beside it"
    )
    add_audit(commands)
    return parser


def _train(args: argparse.Namespace) -> None:
    from mixpriv.export.initial import load_initial
    from mixpriv.training.config import load_config

    config = load_config(args.config, args.fold)
    initial = None if args.initial is None else load_initial(args.initial, args.network)
    if args.proxy is not None and args.network != "segmenter":
        raise InputError(f"--proxy: expected the segmenter as the network, got the {args.network}")
    if args.network == "extractor":
        if args.steps is not None:
            raise InputError("--steps: expected the segmenter or the control as the network, got the extractor")
        from mixpriv.training.extraction import train_extractor

        if config.extractor is None:
            raise InputError(f"config {config.name}: expected an [extractor] to train, got none")
        print(train_extractor(config.extractor, args.data, args.output, initial))
    else:
        from mixpriv.training.joint import parse_proxy, proxy_config, train_joint, with_steps

        joint = config.segmenter if args.network == "segmenter" else config.control
        if args.steps is not None:
            joint = with_steps(joint, args.steps)
        if args.proxy is not None:
            joint = proxy_config(joint, *parse_proxy(args.proxy))
        print(train_joint(joint, args.data, args.output, initial))


def _export(args: argparse.Namespace) -> None:
    from mixpriv.export.pack import pack
    from mixpriv.training.config import load_config

    print(pack(load_config(args.config), args.segmenter_run, args.extractor_run, args.output, args.version))


def _evaluate(args: argparse.Namespace) -> None:
    from mixpriv.bundle import load_bundle
    from mixpriv.provenance import commit
    from mixpriv.training.config import load_config
    from mixpriv.training.evaluation import cases, methods, report

    if not all(0 < weight < 1 for weight in args.weights) or min(args.fused, default=1) < 1:
        raise InputError("--weights, --fused: expected weights between 0 and 1, and numbers from 1")
    config = load_config(args.config, args.fold or 0)
    bundle, region = load_bundle(args.bundle or config.name), config.segmenter.region
    subjects = args.subjects
    if args.fold is not None:
        if config.segmenter.folds is None or subjects:
            raise InputError("--fold: expected a config with [folds], and no --subjects")
        subjects = config.segmenter.folds.subjects([case.subject for case in cases.find_heads(args.data)])
    chosen = cases.find_heads(args.data, subjects) if region is None else cases.find_crops(args.data, region, subjects)
    control = None
    if args.control is not None:
        from mixpriv.export.pack import torch_segmenter

        control = torch_segmenter(config.control, args.control)
    run = report.Run(
        commit(),
        args.split,
        config.counted,
        args.seed,
        "in one process" if args.in_process else "through a real Triton server",
        _evaluate_command(args),
    )
    scores: list[Score] = []
    with contextlib.ExitStack() as stack:
        segmenter = _segmenter(bundle, in_process=args.in_process, stack=stack)
        own = methods.Methods(bundle, args.seed)
        tried = [*own.all(args.weights, args.fused, control), *_rivals(own, config, args.proxies)]
        evaluator = methods.Evaluator(bundle, segmenter, tried)
        for case in chosen:
            scores += evaluator.evaluate(case)
            print(case.name, file=sys.stderr)
    report.write_scores(scores, args.output.with_suffix(".csv"))
    report.write_report(scores, bundle, run, evaluator.costs, evaluator.likeness(), args.output)
    print(args.output.read_text(encoding="utf-8"), end="")


def _rivals(own: Methods, config: TrainingConfig, said: Sequence[str]) -> Iterator[Method]:
    from mixpriv.export.pack import torch_segmenter
    from mixpriv.training.joint import parse_proxy, proxy_config

    for text in said:
        method, _, run = text.partition(":")
        if not run:
            raise InputError(f"--proxies: expected NAME=STRENGTH:RUN, got {text!r}")
        proxy, strength = parse_proxy(method)
        yield own.rival(proxy, strength, torch_segmenter(proxy_config(config.segmenter, proxy, strength), Path(run)))


def _segmenter(bundle: Bundle, *, in_process: bool, stack: contextlib.ExitStack) -> Segmenter:
    if in_process:
        from mixpriv.engine.in_process import InProcessSegmenter

        return InProcessSegmenter(bundle.segmenter_path)
    from mixpriv.server.embedded import embedded_server
    from mixpriv.wire.contract import SegmenterContract
    from mixpriv.wire.transport import GrpcSegmenter

    address = stack.enter_context(embedded_server(bundle))
    return stack.enter_context(GrpcSegmenter(address, SegmenterContract.of(bundle)))


def _evaluate_command(args: argparse.Namespace) -> str:
    return " ".join(
        [
            f"mixpriv evaluate {Path(args.config).name} --data DATA",
            *(["--subjects", *args.subjects] if args.subjects else []),
            *([f"--fold {args.fold}"] if args.fold is not None else []),
            *([f"--split {args.split}"] if args.split != "given" else []),
            *(["--control RUN"] if args.control is not None else []),
            *(["--proxies", *(f"{p.split(':')[0]}:RUN" for p in args.proxies)] if args.proxies else []),
            *(["--in-process"] if args.in_process else []),
            f"--weights {' '.join(map(str, args.weights))}",
            f"--fused {' '.join(map(str, args.fused))} --seed {args.seed} -o {args.output.name}",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        if args.command == "audit":
            return run_audit(args)
        {"train": _train, "export": _export, "evaluate": _evaluate}[args.command](args)
    except MixprivError as error:
        print(f"mixpriv: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
