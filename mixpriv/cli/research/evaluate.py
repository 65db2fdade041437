"""``mixpriv evaluate``: accuracy on labelled scans."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixpriv.cli.options import a_path
from mixpriv.cli.research.pages import require_markdown
from mixpriv.cli.terminal import complain, say_text
from mixpriv.errors import InputError

if TYPE_CHECKING:
    from mixpriv.bundle import Bundle
    from mixpriv.datasets import Case
    from mixpriv.evaluation.methods import Method, Methods
    from mixpriv.training.config import TrainingConfig
    from mixpriv.wire.transport import Segmenter

PROGRAM = "mixpriv"
REAL_REFERENCES = 20
"""Labelled scans that serve as references in an ablation."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser("evaluate", help="accuracy on labelled scans, every method beside its controls")
    parser.add_argument("config", help="the config that the bundle was trained with")
    parser.add_argument("--data", type=a_path, required=True, help="BIDS folder of heads, or MSD folder of crops")
    parser.add_argument("--bundle", help="a shipped name or a folder (the config's name)")
    parser.add_argument("--subjects", nargs="+", default=[], help="default: all heads, or the crops held out")
    parser.add_argument("--fold", type=int, help="the subjects of this fold, of a config that has folds")
    parser.add_argument("--split", default="given", help="what the scans are called in the table")
    parser.add_argument(
        "--weights", type=float, nargs="+", default=[0.9, 0.7, 0.5, 0.3, 0.1], metavar="A", help="fixed weights tried"
    )
    parser.add_argument(
        "--shielded-weights",
        type=float,
        nargs="+",
        default=[],
        metavar="A",
        help="the same in mode shielded, if it has it",
    )
    parser.add_argument("--fused", type=int, nargs="+", default=[3, 5, 10], metavar="K", help="references averaged")
    parser.add_argument("--control", type=a_path, metavar="RUN", help="run folder of a network of D's size")
    parser.add_argument(
        "--proxies",
        nargs="+",
        default=[],
        metavar="NAME=STRENGTH:RUN",
        help="other methods, each with its S's run folder",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        default=[],
        metavar="NAME=RUN[:CONTROL]",
        help="S and D trained otherwise, their runs, and those of a control of their D's size",
    )
    parser.add_argument("--fuse-variants", action="store_true", help="--fused for them, too")
    parser.add_argument(
        "--ablations", action="store_true", help="also answers that are not rounded, and references of other kinds"
    )
    parser.add_argument("--tissues", action="store_true", help="score the tissues that the bundle's classes merge to")
    parser.add_argument("--in-process", action="store_true", help="the same network without a server: faster")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "-o", "--output", type=a_path, required=True, help="markdown file; CSV and plot are put beside it"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and write the table; returns the exit code."""
    from mixpriv.bundle import load_bundle, require_one_modality
    from mixpriv.bundle_files import require_side
    from mixpriv.datasets import LABELS, kind_of
    from mixpriv.evaluation import report
    from mixpriv.evaluation.evaluator import Evaluator
    from mixpriv.evaluation.methods import Methods, evaluation_key
    from mixpriv.evaluation.metrics import Score
    from mixpriv.provenance import commit
    from mixpriv.training.config import load_config

    if not all(0 < weight < 1 for weight in [*args.weights, *args.shielded_weights]) or min(args.fused, default=1) < 1:
        raise InputError("--weights, --fused: expected weights between 0 and 1, and numbers from 1")
    require_markdown(args.output)
    config = load_config(args.config, args.fold or 0)
    bundle = load_bundle(args.bundle or config.name)
    require_one_modality(bundle, "evaluate")
    require_side(bundle, "both")
    kind = LABELS if args.tissues else kind_of(bundle)
    cases = _cases(args, config, kind)
    where = "in one process" if args.in_process else "through a real Triton server"
    counted = _counted(bundle, config, tissues=args.tissues)
    made = report.Run(commit(), args.split, counted, args.seed, where, _evaluate_command(args))
    own, scores = Methods(bundle, evaluation_key(args.seed)), list[Score]()
    tried = _tried(own, config, args, cases)
    with contextlib.ExitStack() as stack:
        evaluator = Evaluator(
            own, _segmenter(bundle, in_process=args.in_process, stack=stack), tried, tissues=args.tissues
        )
        for case in cases:
            scores += evaluator.evaluate(case)
            complain(PROGRAM, case.name)
    report.write_scores(scores, args.output.with_suffix(".csv"))
    names = [of.name for of in evaluator.labelling.classes]
    report.write_report(scores, bundle, made, evaluator.costs, evaluator.linkage(), args.output, classes=names)
    say_text(args.output.read_text(encoding="utf-8").rstrip("\n"))
    return 0


def _counted(bundle: Bundle, config: TrainingConfig, *, tissues: bool) -> tuple[int, ...]:
    """The classes whose mean is reported, or the tissues that these merge to."""
    if not tissues or bundle.tissues is None:
        return config.counted
    return tuple(sorted({bundle.tissues.of[label] for label in config.counted}))


def _cases(args: argparse.Namespace, config: TrainingConfig, kind: str) -> list[Case]:
    from mixpriv.datasets import find_crops, find_heads

    data, subjects = config.segmenter.data, args.subjects
    if args.fold is not None:
        if data.folds is None or subjects:
            raise InputError("--fold: expected a config with [folds], and no --subjects")
        subjects = data.folds.subjects([case.subject for case in find_heads(args.data, kind=kind)])
    if data.region is None:
        return find_heads(args.data, subjects, kind)
    return find_crops(args.data, data.region.held_out_every, subjects)


def _tried(own: Methods, config: TrainingConfig, args: argparse.Namespace, cases: Sequence[Case]) -> list[Method]:
    """All methods that the command line asks for."""
    from mixpriv.export.parity import torch_segmenter

    control = None if args.control is None else torch_segmenter(config.control, args.control)
    return [
        *own.all(args.weights, args.fused, control, args.shielded_weights),
        *_rivals(config, args.proxies),
        *(_ablations(own, config, args, cases) if args.ablations else ()),
        *_variants(config, args),
    ]


def _rivals(config: TrainingConfig, said: Sequence[str]) -> Iterator[Method]:
    from mixpriv.evaluation.methods import rival
    from mixpriv.export.parity import torch_segmenter
    from mixpriv.training.config import parse_rival, rival_config

    for text in said:
        method, _, folder = text.partition(":")
        if not folder:
            raise InputError(f"--proxies: expected NAME=STRENGTH:RUN, got {text!r}")
        asked = parse_rival(method)
        network = torch_segmenter(rival_config(config.segmenter, asked), Path(folder))
        yield rival(asked.name, asked.strength, network)


def _ablations(
    own: Methods, config: TrainingConfig, args: argparse.Namespace, measured: Sequence[Case]
) -> Iterator[Method]:
    """The bundle's networks with answers that are not rounded, and with references of other kinds."""
    from mixpriv.datasets import kind_of, not_measured
    from mixpriv.evaluation.ablation import TorchNetworks, other_references, real_references
    from mixpriv.export.checkpoint import load_initial
    from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
    from mixpriv.labels import Labelling

    shipped = load_initial(own.bundle.directory, "segmenter")
    yield from TorchNetworks.of(config.segmenter, shipped, levels=0).methods("answers not rounded")
    region = config.segmenter.data.region
    others = not_measured(args.data, None if region is None else region.held_out_every, measured, kind_of(own.bundle))[
        :REAL_REFERENCES
    ]
    yield from other_references(real_references(others, load_preprocessor(own.bundle), Labelling.of(own.bundle)))


def _variants(config: TrainingConfig, args: argparse.Namespace) -> Iterator[Method]:
    """Networks that were trained otherwise."""
    from mixpriv.evaluation.ablation import TorchNetworks
    from mixpriv.export.checkpoint import load_initial
    from mixpriv.export.parity import torch_segmenter

    for text in args.variants:
        name, _, folders = text.partition("=")
        folder, _, alone = folders.partition(":")
        if not folder:
            raise InputError(f"--variants: expected NAME=RUN or NAME=RUN:CONTROL, got {text!r}")
        control = torch_segmenter(config.control_of(name), Path(alone)) if alone else None
        weights = load_initial(Path(folder), "segmenter")
        trained = config.as_variant(name)
        shielded = trained.shielded if trained.segmenter.mixing.shielded_share > 0 else None
        networks = TorchNetworks.of(trained.segmenter, weights, control=control, shielded=shielded)
        yield from networks.methods(name, args.fused if args.fuse_variants else (), args.shielded_weights)


def _segmenter(bundle: Bundle, *, in_process: bool, stack: contextlib.ExitStack) -> Segmenter:
    if in_process:
        from mixpriv.engine.in_process import InProcessSegmenter

        return InProcessSegmenter(bundle.segmenter_path)
    from mixpriv.server.embedded import EmbeddedSegmenter, embedded_server

    return stack.enter_context(EmbeddedSegmenter(stack.enter_context(embedded_server(bundle))))


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
            *(["--tissues"] if args.tissues else []),
            *(["--in-process"] if args.in_process else []),
            f"--weights {' '.join(map(str, args.weights))}",
            *([f"--shielded-weights {' '.join(map(str, args.shielded_weights))}"] if args.shielded_weights else []),
            f"--fused {' '.join(map(str, args.fused))} --seed {args.seed} -o {args.output.name}",
        ]
    )


def _without_paths(variant: str) -> str:
    name, _, runs = variant.partition("=")
    return f"{name}=RUN" + (":CONTROL" if ":" in runs else "")
