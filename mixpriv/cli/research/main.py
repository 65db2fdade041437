"""``mixpriv``: train, pack, export, evaluate and audit. Needs the extra ``[train]``, ``export`` also ``[gpu]``."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mixpriv.cli import process
from mixpriv.cli.options import Parser, a_path
from mixpriv.cli.research.audit import add_parser as add_audit
from mixpriv.cli.research.audit import run as run_audit
from mixpriv.cli.terminal import complain, say, say_text
from mixpriv.errors import InputError

if TYPE_CHECKING:
    from mixpriv.bundle import Bundle
    from mixpriv.datasets import Case
    from mixpriv.evaluation.methods import Method, Methods
    from mixpriv.evaluation.metrics import Score
    from mixpriv.training.config import TrainingConfig
    from mixpriv.training.joint import JointConfig
    from mixpriv.wire.transport import Segmenter

PROGRAM = "mixpriv"
REAL_REFERENCES = 20
"""Labelled scans that serve as references in an ablation."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="mixpriv", description="Train, pack, export and evaluate mixpriv networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a bundle's networks; resumes from the output folder")
    train.add_argument("config", help="a TOML file or a shipped config's name, such as brain-t1")
    train.add_argument("--network", choices=("segmenter", "extractor", "control"), default="segmenter")
    train.add_argument("--fold", type=int, default=0, help="the fold held out, of a config that has folds (0)")
    train.add_argument("--steps", type=int, metavar="N", help="in place of the config's, as for a run with --initial")
    train.add_argument("--seed", type=int, metavar="N", help="in place of the config's")
    train.add_argument(
        "--variant", metavar="NAME", help="as the config's [variants.NAME] says: S and D, or a control of that D's size"
    )
    train.add_argument("--proxy", metavar="NAME=STRENGTH", help="S for a method to compare with: warp=MM or noise=STD")
    train.add_argument(
        "--data", type=a_path, required=True, help="folder of *_dseg.nii.gz in FreeSurfer numbering, of MSD crops, ..."
    )
    train.add_argument("-o", "--output", type=a_path, required=True, help="folder of checkpoints and log")
    train.add_argument("--initial", type=a_path, help="start from the weights of a run or of a bundle")
    train.add_argument("--initial-unmixer", type=a_path, metavar="RUN", help="D starts from the weights of another run")
    pack = commands.add_parser("pack", help="pack trained weights into a bundle (ONNX, with a parity check)")
    pack.add_argument("config", help="the config that the runs were trained with")
    pack.add_argument("--variant", metavar="NAME", help="the config's [variants.NAME], if the run is of that")
    pack.add_argument("--segmenter-run", type=a_path, required=True, help="folder of the joint training, or a bundle")
    pack.add_argument(
        "--extractor-run", type=a_path, help="folder of its training, or a bundle; crops and stripped need none"
    )
    pack.add_argument(
        "--data",
        type=a_path,
        help="the training data: how alike to strangers shielded mixtures are is measured",
    )
    pack.add_argument("--version", required=True, help="the bundle's version, such as 1.0.0")
    pack.add_argument("-o", "--output", type=a_path, required=True, help="the bundle's folder")
    export = commands.add_parser("export", help="write a bundle's segmenter for a server's runtime, checked")
    export.add_argument("bundle", help="a shipped name or a folder")
    export.add_argument("--target", choices=("openvino", "onnx", "tensorrt"), required=True)
    export.add_argument("-o", "--output", type=a_path, required=True, help="a folder that does not exist yet")
    plan = export.add_argument_group("of TensorRT plans, which are built on this machine's GPU and for it")
    plan.add_argument("--batch", type=int, default=1, metavar="N", help="most volumes at once (1)")
    plan.add_argument("--version-compatible", action="store_true", help="later versions of TensorRT may load it")
    plan.add_argument("--workspace-mib", type=int, metavar="N", help="most scratch memory of a layer (no limit)")
    plan.add_argument("--timing-cache", type=a_path, metavar="FILE", help="read and written: the next build is faster")
    evaluate = commands.add_parser("evaluate", help="accuracy on labelled scans, every method beside its controls")
    evaluate.add_argument("config", help="the config that the bundle was trained with")
    evaluate.add_argument("--data", type=a_path, required=True, help="BIDS folder of heads, or MSD folder of crops")
    evaluate.add_argument("--bundle", help="a shipped name or a folder (the config's name)")
    evaluate.add_argument("--subjects", nargs="+", default=[], help="default: all heads, or the crops held out")
    evaluate.add_argument("--fold", type=int, help="the subjects of this fold, of a config that has folds")
    evaluate.add_argument("--split", default="given", help="what the scans are called in the table")
    evaluate.add_argument(
        "--weights", type=float, nargs="+", default=[0.9, 0.7, 0.5, 0.3, 0.1], metavar="A", help="fixed weights tried"
    )
    evaluate.add_argument(
        "--shielded-weights",
        type=float,
        nargs="+",
        default=[],
        metavar="A",
        help="the same in mode shielded, if it has it",
    )
    evaluate.add_argument("--fused", type=int, nargs="+", default=[3, 5, 10], metavar="K", help="references averaged")
    evaluate.add_argument("--control", type=a_path, metavar="RUN", help="run folder of a network of D's size")
    evaluate.add_argument(
        "--proxies",
        nargs="+",
        default=[],
        metavar="NAME=STRENGTH:RUN",
        help="other methods, each with its S's run folder",
    )
    evaluate.add_argument(
        "--variants",
        nargs="+",
        default=[],
        metavar="NAME=RUN[:CONTROL]",
        help="S and D trained otherwise, their runs, and those of a control of their D's size",
    )
    evaluate.add_argument("--fuse-variants", action="store_true", help="--fused for them, too")
    evaluate.add_argument(
        "--ablations", action="store_true", help="also answers that are not rounded, and references of other kinds"
    )
    evaluate.add_argument("--in-process", action="store_true", help="the same network without a server: faster")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument(
        "-o", "--output", type=a_path, required=True, help="markdown file; CSV and plot are put beside it"
    )
    pool = commands.add_parser("pool", help="one table of the scores of several: folds, or trainings")
    pool.add_argument("config", help="the config that all were trained with")
    pool.add_argument("scores", type=a_path, nargs="+", help="CSV files that evaluate wrote")
    pool.add_argument("--repeats", action="store_true", help="the files are of several trainings, on the same scans")
    pool.add_argument("--split", default="given", help="what the scans are called in the table")
    pool.add_argument("-o", "--output", type=a_path, required=True, help="markdown file")
    joined = commands.add_parser("front", help="accuracy against linkage: what evaluate and audit found, in a picture")
    joined.add_argument("config", help="the config that the bundle was trained with")
    joined.add_argument("--bundle", help="a shipped name or a folder (the config's name)")
    joined.add_argument("--scores", type=a_path, required=True, help="CSV file that evaluate wrote")
    joined.add_argument("--audits", type=a_path, nargs="+", required=True, help="audit.csv files, the last one counts")
    joined.add_argument("--split", default="given", help="what the scans are called in the table")
    joined.add_argument(
        "-o", "--output", type=a_path, required=True, help="markdown file; the picture is put beside it"
    )
    add_audit(commands)
    return parser


def _train(args: argparse.Namespace) -> None:
    from mixpriv.export.checkpoint import load_initial
    from mixpriv.training.config import load_config

    config = load_config(args.config, args.fold)
    initial = None if args.initial is None else load_initial(args.initial, args.network)
    if args.network != "segmenter" and args.proxy is not None:
        raise InputError(f"--proxy: expected the segmenter as the network, got the {args.network}")
    if args.network == "extractor":
        if args.variant is not None:
            raise InputError("--variant: expected the segmenter or the control as the network, got the extractor")
        if args.initial_unmixer is not None:
            raise InputError("--initial-unmixer: expected the segmenter as the network, got the extractor")
        if args.steps is not None or args.seed is not None:
            raise InputError("--steps, --seed: expected the segmenter or the control as the network, got the extractor")
        from mixpriv.training.extraction import train_extractor

        if config.extractor is None:
            raise InputError(f"config {config.name}: expected an [extractor] to train, got none")
        say(str(train_extractor(config.extractor, args.data, args.output, initial)))
        return
    from mixpriv.training.joint import train_joint

    unmixer = None if args.initial_unmixer is None else load_initial(args.initial_unmixer, "segmenter")
    say(str(train_joint(_joint_training(args, config), args.data, args.output, initial, unmixer)))


def _joint_training(args: argparse.Namespace, config: TrainingConfig) -> JointConfig:
    """The training that the command line asks for."""
    from mixpriv.training.joint import parse_proxy, proxy_config, with_steps

    if args.network == "segmenter":
        joint = config.segmenter if args.variant is None else config.variant(args.variant)
    else:
        joint = config.control if args.variant is None else config.control_of(args.variant)
    if args.steps is not None:
        joint = with_steps(joint, args.steps)
    if args.seed is not None:
        joint = replace(joint, seed=args.seed)
    return joint if args.proxy is None else proxy_config(joint, *parse_proxy(args.proxy))


def _pack(args: argparse.Namespace) -> None:
    from mixpriv.export.pack import pack
    from mixpriv.training.config import load_config

    config = load_config(args.config)
    if args.variant is not None:
        config = config.as_variant(args.variant)
    say(str(pack(config, args.segmenter_run, args.extractor_run, args.output, args.version, args.data)))


def _export(args: argparse.Namespace) -> None:
    from mixpriv.bundle import load_bundle

    bundle = load_bundle(args.bundle)
    if args.target != "tensorrt":
        from mixpriv.export.targets import export_bundle

        say(str(export_bundle(bundle, args.target, args.output)))
        return
    if args.batch < 1 or (args.workspace_mib or 1) < 1:
        raise InputError("--batch, --workspace-mib: expected a whole number from 1")
    try:
        from mixpriv.export.tensorrt_plan import PlanSettings, export_plan
    except ModuleNotFoundError as error:
        raise InputError(f"--target tensorrt: {error.name} is not installed here (extra [gpu])") from None
    except ImportError as error:  # the bindings are there, a library that they need is not
        raise InputError(f"--target tensorrt: TensorRT cannot be loaded: {str(error).splitlines()[0]}") from None
    settings = PlanSettings(args.batch, args.version_compatible, args.workspace_mib)
    say(str(export_plan(bundle, args.output, settings, args.timing_cache)))


def _evaluate(args: argparse.Namespace) -> None:
    from mixpriv.bundle import load_bundle, require_one_modality
    from mixpriv.evaluation import cases, methods, report
    from mixpriv.provenance import commit
    from mixpriv.training.config import load_config

    if not all(0 < weight < 1 for weight in [*args.weights, *args.shielded_weights]) or min(args.fused, default=1) < 1:
        raise InputError("--weights, --fused: expected weights between 0 and 1, and numbers from 1")
    _require_markdown(args.output)
    config = load_config(args.config, args.fold or 0)
    bundle, region = load_bundle(args.bundle or config.name), config.segmenter.region
    require_one_modality(bundle, "evaluate")
    subjects = args.subjects
    if args.fold is not None:
        if config.segmenter.folds is None or subjects:
            raise InputError("--fold: expected a config with [folds], and no --subjects")
        subjects = config.segmenter.folds.subjects([case.subject for case in cases.find_heads(args.data)])
    chosen = cases.find_heads(args.data, subjects) if region is None else cases.find_crops(args.data, region, subjects)
    control = None
    if args.control is not None:
        from mixpriv.export.parity import torch_segmenter

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
        tried = [
            *own.all(args.weights, args.fused, control, args.shielded_weights),
            *_rivals(own, config, args.proxies),
        ]
        tried += _ablations(own, config, args, chosen)
        evaluator = methods.Evaluator(bundle, segmenter, tried)
        for case in chosen:
            scores += evaluator.evaluate(case)
            complain(PROGRAM, case.name)
    report.write_scores(scores, args.output.with_suffix(".csv"))
    report.write_report(scores, bundle, run, evaluator.costs, evaluator.linkage(), args.output)
    say_text(args.output.read_text(encoding="utf-8").rstrip("\n"))


def _pool(args: argparse.Namespace) -> None:
    from mixpriv.evaluation import pooling, report
    from mixpriv.provenance import commit
    from mixpriv.training.config import load_config

    _require_markdown(args.output)
    config, names = load_config(args.config), [path.name for path in args.scores]
    repeats = " --repeats" if args.repeats else ""
    command = (
        f"mixpriv pool {Path(args.config).name} {' '.join(names)}{repeats} --split {args.split} -o {args.output.name}"
    )
    run = report.Run(commit(), args.split, config.counted, 0, "", command)
    scores = pooling.average(args.scores) if args.repeats else pooling.pool(args.scores)
    pooling.write_pooled(
        scores, config.name, config.segmenter.classes, run, args.scores, args.output, repeats=args.repeats
    )
    say_text(args.output.read_text(encoding="utf-8").rstrip("\n"))


def _front(args: argparse.Namespace) -> None:
    from mixpriv.bundle import load_bundle
    from mixpriv.evaluation import front, report
    from mixpriv.provenance import commit
    from mixpriv.training.config import load_config

    _require_markdown(args.output)
    config, audits = load_config(args.config), [path.name for path in args.audits]
    command = (
        f"mixpriv front {Path(args.config).name} --scores {args.scores.name} --audits {' '.join(audits)} "
        f"--split {args.split} -o {args.output.name}"
    )
    run = report.Run(commit(), args.split, config.counted, 0, "", command)
    scores, linkage = report.read_scores(args.scores), front.read_linkage(args.audits)
    front.write_front(
        scores, linkage, load_bundle(args.bundle or config.name), run, [args.scores.name, *audits], args.output
    )
    say_text(args.output.read_text(encoding="utf-8").rstrip("\n"))


def _require_markdown(path: Path) -> None:
    """Table and picture are put beside it, by other endings."""
    if path.suffix != ".md":
        raise InputError(f"{path.name}: expected an output named .md")


def _rivals(own: Methods, config: TrainingConfig, said: Sequence[str]) -> Iterator[Method]:
    from mixpriv.export.parity import torch_segmenter
    from mixpriv.training.joint import parse_proxy, proxy_config

    for text in said:
        method, _, run = text.partition(":")
        if not run:
            raise InputError(f"--proxies: expected NAME=STRENGTH:RUN, got {text!r}")
        proxy, strength = parse_proxy(method)
        yield own.rival(proxy, strength, torch_segmenter(proxy_config(config.segmenter, proxy, strength), Path(run)))


def _ablations(
    own: Methods, config: TrainingConfig, args: argparse.Namespace, measured: Sequence[Case]
) -> list[Method]:
    from mixpriv.evaluation import cases
    from mixpriv.evaluation.ablation import OtherReferences, TorchNetworks, real_references
    from mixpriv.export.checkpoint import load_initial
    from mixpriv.export.parity import torch_segmenter
    from mixpriv.imaging.preprocess.preprocessor import load_conformer

    tried: list[Method] = []
    if args.ablations:
        shipped = load_initial(own.bundle.directory, "segmenter")
        tried += TorchNetworks.of(config.segmenter, shipped, levels=0).methods(own, "answers not rounded")
        others = cases.not_measured(args.data, config.segmenter.region, measured)[:REAL_REFERENCES]
        real = real_references(others, load_conformer(own.bundle), len(own.bundle.classes))
        tried += OtherReferences(own, real).methods()
    for text in args.variants:
        name, _, runs = text.partition("=")
        run, _, alone = runs.partition(":")
        if not run:
            raise InputError(f"--variants: expected NAME=RUN or NAME=RUN:CONTROL, got {text!r}")
        control = torch_segmenter(config.control_of(name), Path(alone)) if alone else None
        weights = load_initial(Path(run), "segmenter")
        trained = config.as_variant(name)
        shielded = trained.shielded if trained.segmenter.shielded_share > 0 else None
        networks = TorchNetworks.of(trained.segmenter, weights, control=control, shielded=shielded)
        tried += networks.methods(own, name, args.fused if args.fuse_variants else (), args.shielded_weights)
    return tried


def _segmenter(bundle: Bundle, *, in_process: bool, stack: contextlib.ExitStack) -> Segmenter:
    if in_process:
        from mixpriv.engine.in_process import InProcessSegmenter

        return InProcessSegmenter(bundle.segmenter_path)
    from mixpriv.server.embedded import EmbeddedSegmenter, embedded_server

    return stack.enter_context(EmbeddedSegmenter(stack.enter_context(embedded_server(bundle))))


def _without_paths(variant: str) -> str:
    name, _, runs = variant.partition("=")
    return f"{name}=RUN" + (":CONTROL" if ":" in runs else "")


def _evaluate_command(args: argparse.Namespace) -> str:
    return " ".join(
        [
            f"mixpriv evaluate {Path(args.config).name} --data DATA",
            *(["--subjects", *args.subjects] if args.subjects else []),
            *([f"--fold {args.fold}"] if args.fold is not None else []),
            *([f"--split {args.split}"] if args.split != "given" else []),
            *(["--control RUN"] if args.control is not None else []),
            *(["--proxies", *(f"{p.split(':')[0]}:RUN" for p in args.proxies)] if args.proxies else []),
            *(["--variants", *map(_without_paths, args.variants)] if args.variants else []),
            *(["--fuse-variants"] if args.fuse_variants else []),
            *(["--ablations"] if args.ablations else []),
            *(["--in-process"] if args.in_process else []),
            f"--weights {' '.join(map(str, args.weights))}",
            *([f"--shielded-weights {' '.join(map(str, args.shielded_weights))}"] if args.shielded_weights else []),
            f"--fused {' '.join(map(str, args.fused))} --seed {args.seed} -o {args.output.name}",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return process.run(PROGRAM, partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    if args.command == "audit":
        return run_audit(args)
    commands = {"train": _train, "pack": _pack, "export": _export, "evaluate": _evaluate, "pool": _pool,
                "front": _front}  # fmt: skip
    commands[args.command](args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
