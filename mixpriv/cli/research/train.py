"""``mixpriv train``: a network of a bundle, or a control."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixpriv.cli.options import a_path
from mixpriv.cli.terminal import say
from mixpriv.errors import InputError

if TYPE_CHECKING:
    from mixpriv.training.config import JointConfig, TrainingConfig
    from mixpriv.training.loop import Initial


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser("train", help="train a bundle's networks; resumes from the output folder")
    parser.add_argument("config", help="a TOML file or a shipped config's name, such as brain-t1")
    parser.add_argument("--network", choices=("segmenter", "extractor", "local", "control"), default="segmenter")
    parser.add_argument("--fold", type=int, default=0, help="the fold held out, of a config that has folds (0)")
    parser.add_argument("--steps", type=int, metavar="N", help="in place of the config's, as for a run with --initial")
    parser.add_argument("--seed", type=int, metavar="N", help="in place of the config's")
    parser.add_argument(
        "--variant", metavar="NAME", help="as the config's [variants.NAME] says: S and D, or a control of that D's size"
    )
    parser.add_argument("--proxy", metavar="NAME=STRENGTH", help="S for a method to compare with: warp=MM or noise=STD")
    parser.add_argument(
        "--data", type=a_path, required=True, help="folder of *_dseg.nii.gz in FreeSurfer numbering, of MSD crops, ..."
    )
    parser.add_argument("-o", "--output", type=a_path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--initial", type=a_path, help="start from the weights of a run or of a bundle")
    parser.add_argument(
        "--initial-unmixer", type=a_path, metavar="RUN", help="D starts from the weights of another run"
    )
    parser.add_argument(
        "--real-heads", type=a_path, metavar="DIR", help="the extractor sees these, too: NAME.nii.gz, NAME_mask.nii.gz"
    )
    parser.add_argument(
        "--unlabelled", type=a_path, metavar="DIR", help="real scans without labels too (BIDS), see --teacher"
    )
    parser.add_argument("--teacher", type=a_path, metavar="RUN", help="a run or a bundle whose S labels them")


def run(args: argparse.Namespace) -> int:
    """Train as the command line says; returns the exit code."""
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
        _self_training(args)
        if args.steps is not None or args.seed is not None:
            raise InputError("--steps, --seed: expected the segmenter or the control as the network, got the extractor")
        from mixpriv.training.extraction import train_extractor

        if config.extractor is None:
            raise InputError(f"config {config.name}: expected an [extractor] to train, got none")
        say(str(train_extractor(config.extractor, args.data, args.output, initial, args.real_heads)))
        return 0
    if args.real_heads is not None:
        raise InputError(f"--real-heads: expected the extractor as the network, got the {args.network}")
    from mixpriv.training.joint import train_joint

    unmixer = None if args.initial_unmixer is None else load_initial(args.initial_unmixer, "segmenter")
    joint = _joint_training(args, config)
    say(str(train_joint(joint, args.data, args.output, initial, unmixer, _self_training(args))))
    return 0


def _self_training(args: argparse.Namespace) -> tuple[Path, Initial] | None:
    """Scans without labels, and the teacher that labels them."""
    from mixpriv.export.checkpoint import load_initial

    if (args.unlabelled is None) != (args.teacher is None):
        raise InputError("--unlabelled, --teacher: expected both or neither")
    if args.unlabelled is None:
        return None
    if args.network != "segmenter":
        raise InputError(f"--unlabelled: expected the segmenter as the network, got the {args.network}")
    return args.unlabelled, load_initial(args.teacher, "segmenter")


def _joint_training(args: argparse.Namespace, config: TrainingConfig) -> JointConfig:
    """The training that the command line asks for."""
    from mixpriv.training.config import parse_rival, rival_config, with_steps

    if args.network == "segmenter":
        joint = config.segmenter if args.variant is None else config.variant(args.variant)
    elif args.network == "local":
        if args.variant is not None:
            raise InputError("--variant: expected the segmenter or the control as the network, got the local")
        joint = config.local
    else:
        joint = config.control if args.variant is None else config.control_of(args.variant)
    if args.steps is not None:
        joint = with_steps(joint, args.steps)
    if args.seed is not None:
        joint = replace(joint, seed=args.seed)
    return joint if args.proxy is None else rival_config(joint, parse_rival(args.proxy))
