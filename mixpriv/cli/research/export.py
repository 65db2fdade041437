"""``mixpriv export``: a bundle's segmenter for a server's runtime."""

from __future__ import annotations

import argparse
from typing import Any

from mixpriv.cli.options import a_path
from mixpriv.cli.terminal import say
from mixpriv.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser("export", help="write a bundle's segmenter for a server's runtime, checked")
    parser.add_argument("bundle", help="a shipped name or a folder")
    parser.add_argument("--target", choices=("openvino", "onnx", "tensorrt"), required=True)
    parser.add_argument("-o", "--output", type=a_path, required=True, help="a folder that does not exist yet")
    plan = parser.add_argument_group("of TensorRT plans, which are built on this machine's GPU and for it")
    plan.add_argument("--batch", type=int, default=1, metavar="N", help="most volumes at once (1)")
    plan.add_argument("--version-compatible", action="store_true", help="later versions of TensorRT may load it")
    plan.add_argument("--workspace-mib", type=int, metavar="N", help="most scratch memory of a layer (no limit)")
    plan.add_argument("--timing-cache", type=a_path, metavar="FILE", help="read and written: the next build is faster")


def run(args: argparse.Namespace) -> int:
    """Export and say where; returns the exit code."""
    from mixpriv.bundle import load_bundle

    bundle = load_bundle(args.bundle)
    if args.target != "tensorrt":
        from mixpriv.export.targets import export_bundle

        say(str(export_bundle(bundle, args.target, args.output)))
        return 0
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
    return 0
