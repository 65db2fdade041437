"""``mixpriv``: train, export and evaluate. Needs the extra ``[train]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mixpriv.errors import InputError, MixprivError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mixpriv", description="Train, export and evaluate mixpriv networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a bundle's networks; resumes from the output folder")
    train.add_argument("config", help="a TOML file or a shipped config's name, such as brain-t1")
    train.add_argument("--network", choices=("segmenter", "extractor", "control"), default="segmenter")
    train.add_argument("--label-maps", type=Path, required=True, help="folder of *_dseg.nii.gz in FreeSurfer numbering")
    train.add_argument("-o", "--output", type=Path, required=True, help="folder of checkpoints and log")
    train.add_argument("--initial", type=Path, help="start from the weights of a run or of a bundle")
    export = commands.add_parser("export", help="pack trained weights into a bundle (ONNX, with a parity check)")
    export.add_argument("config", help="the config that the runs were trained with")
    export.add_argument("--segmenter-run", type=Path, required=True, help="folder of the joint training, or a bundle")
    export.add_argument("--extractor-run", type=Path, required=True, help="folder of its training, or a bundle")
    export.add_argument("--version", required=True, help="the bundle's version, such as 1.0.0")
    export.add_argument("-o", "--output", type=Path, required=True, help="the bundle's folder")
    evaluate = commands.add_parser("evaluate", help="accuracy on labelled scans through a real server, as a table")
    evaluate.add_argument("scans", type=Path, help="BIDS folder: sub-*/**/*_T1w.nii.gz with *_dseg.nii.gz beside it")
    evaluate.add_argument("--bundle", default="brain-t1", help="a shipped name or a folder")
    evaluate.add_argument("--subjects", nargs="+", default=[], help="default: all")
    evaluate.add_argument("--split", default="given", help="what the scans are called in the table")
    evaluate.add_argument("--fused", type=int, default=5, metavar="K", help="references averaged in the last row (5)")
    evaluate.add_argument("--control", type=Path, metavar="RUN", help="run folder of a network of D's size")
    evaluate.add_argument("--config", default="brain-t1", help="the config of that run")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("-o", "--output", type=Path, required=True, help="markdown file; the CSV is put beside it")
    audit = commands.add_parser("audit", help="link mixtures to scans of known people, without training")
    audit.add_argument("scans", type=Path, help="BIDS folder: sub-*/**/*_T1w.nii.gz, some people scanned twice")
    audit.add_argument("--bundle", default="brain-t1", help="a shipped name or a folder")
    audit.add_argument("--draws", type=int, default=5, help="client keys per visit (5)")
    audit.add_argument("-o", "--output", type=Path, required=True, help="markdown file")
    return parser


def _train(args: argparse.Namespace) -> None:
    from mixpriv.export.initial import load_initial
    from mixpriv.training.config import load_config

    config = load_config(args.config)
    initial = None if args.initial is None else load_initial(args.initial, args.network)
    if args.network == "extractor":
        from mixpriv.training.extraction import train_extractor

        print(train_extractor(config.extractor, args.label_maps, args.output, initial))
    else:
        from mixpriv.training.joint import train_joint

        joint = config.segmenter if args.network == "segmenter" else config.control
        print(train_joint(joint, args.label_maps, args.output, initial))


def _export(args: argparse.Namespace) -> None:
    from mixpriv.export.pack import pack
    from mixpriv.training.config import load_config

    print(pack(load_config(args.config), args.segmenter_run, args.extractor_run, args.output, args.version))


def _evaluate(args: argparse.Namespace) -> None:
    from mixpriv.bundle import load_bundle
    from mixpriv.server.embedded import embedded_server
    from mixpriv.training import evaluation
    from mixpriv.wire.contract import SegmenterContract
    from mixpriv.wire.transport import GrpcSegmenter

    bundle = load_bundle(args.bundle)
    cases = evaluation.find_cases(args.scans, args.subjects)
    control = None
    if args.control is not None:
        from mixpriv.export.pack import torch_control
        from mixpriv.training.config import load_config

        control = torch_control(load_config(args.config), args.control)
    scores: list[evaluation.Score] = []
    with embedded_server(bundle) as address, GrpcSegmenter(address, SegmenterContract.of(bundle)) as segmenter:
        evaluator = evaluation.Evaluator(bundle, segmenter, args.seed, control)
        for case in cases:
            scores += evaluator.evaluate(case, args.fused)
            print(case.name, file=sys.stderr)
    evaluation.write_scores(scores, args.output.with_suffix(".csv"))
    command = " ".join(
        [
            "mixpriv evaluate SCANS",
            *(["--subjects", *args.subjects] if args.subjects else []),
            *([f"--split {args.split}"] if args.split != "given" else []),
            *(["--control RUN"] if args.control is not None else []),
            f"--fused {args.fused} --seed {args.seed} -o {args.output.name}",
        ]
    )
    evaluation.write_report(scores, bundle, args.seed, args.split, command, args.output)
    print(args.output.read_text(encoding="utf-8"), end="")


def _audit(args: argparse.Namespace) -> None:
    from mixpriv.audit.linkage import Attack, read_person, write_report
    from mixpriv.bundle import load_bundle
    from mixpriv.provenance import commit

    bundle = load_bundle(args.bundle)
    scans = sorted(args.scans.glob("sub-*/**/*_T1w.nii.gz"))
    attack = Attack([read_person(path, bundle) for path in scans], bundle)
    if not attack.twice():
        raise InputError(f"{args.scans}: expected scans of at least one person scanned twice, got none")
    settings: list[tuple[str, float | None, int]] = [
        ("the scan itself (mode none)", 1.0, 1),
        ("one mixture, a = 0.7", 0.7, 1),
        ("one mixture, a = 0.5", 0.5, 1),
        ("one mixture, a = 0.3", 0.3, 1),
        ("one mixture, a drawn", None, 1),
        ("mean of 5 mixtures, a drawn", None, 5),
        ("mean of 20 mixtures, a drawn", None, 20),
    ]
    results = [attack.link(name, a, 1 if a == 1.0 else args.draws, views) for name, a, views in settings]
    people = len({person.subject for person in attack.people})
    where = f"Commit {commit()}, bundle {bundle.name} {bundle.version}, segmenter fingerprint {bundle.fingerprint[:12]}"
    command = f"mixpriv audit SCANS --draws {args.draws} -o {args.output.name}"
    write_report(results, people, len(attack.twice()), command, where, args.output)
    print(args.output.read_text(encoding="utf-8"), end="")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        {"train": _train, "export": _export, "evaluate": _evaluate, "audit": _audit}[args.command](args)
    except MixprivError as error:
        print(f"mixpriv: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
