"""Do the runtimes agree on real scans, and does it matter? ``python bench/parity.py --heads DIR --crops DIR -o FILE``.

Every runtime segments the same scans, plain and mixed. Its answers, as they go over the wire, are compared with torch's
in float32, and the segmentations that the client makes of them with the labels. Exits 1 if a runtime in float32 differs
by more than one level of 255 in more than 0.1 % of the voxels, or any mean Dice by more than 0.002.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from mixpriv.export.comparison import Comparison
from mixpriv.export.parity import REFERENCE, runtimes
from mixpriv.export.runtimes import Segment
from numpy.typing import NDArray

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.datasets import Case, find_crops, find_heads, kind_of
from mixpriv.evaluation.evaluator import Evaluator
from mixpriv.evaluation.method_id import MIXUP, NONE, MethodId
from mixpriv.evaluation.methods import Methods, evaluation_key
from mixpriv.provenance import commit, hardware
from mixpriv.training.config import TrainingConfig, load_config

LEAST_WITHIN_ONE_LEVEL, MOST_DICE = 0.999, 0.002


@dataclass
class Keeper:
    """A segmenter that keeps its answers by what it was asked."""

    run: Segment
    answers: dict[bytes, NDArray[np.uint8]] = field(default_factory=dict)
    leaves_machine: ClassVar[bool] = False
    deliveries: ClassVar[tuple[()]] = ()
    address: ClassVar[str] = "this process"

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Ask the runtime."""
        answer = self.run(mixture)
        self.answers[hashlib.sha256(mixture.tobytes()).digest()] = answer
        return answer


@dataclass(frozen=True)
class Row:
    """One runtime: how its answers differ from torch's, and the mean Dice per mode."""

    runtime: str
    comparison: Comparison
    dice: dict[str, float]


def measure(bundle: Bundle, config: TrainingConfig, cases: Sequence[Case]) -> list[Row]:
    """All runtimes on all cases; torch first."""
    own = Methods(bundle, evaluation_key(0))
    methods = [m for m in own.all([], [], None) if m.id in (MethodId(NONE), MethodId(MIXUP))]
    keepers, rows = {}, []
    for name, run in runtimes(bundle, config).items():
        keeper = keepers[name] = Keeper(run)
        evaluator = Evaluator(own, keeper, methods)
        scores = [score for case in cases for score in evaluator.evaluate(case) if score.label in config.counted]
        reference = keepers[REFERENCE].answers
        if reference.keys() != keeper.answers.keys():
            raise SystemExit(f"parity: {name} was asked something else than {REFERENCE}")
        ours, theirs = (np.concatenate([a[k].ravel() for k in sorted(reference)]) for a in (keeper.answers, reference))
        dice = {str(m.id): float(np.mean([s.dice for s in scores if s.method == m.id])) for m in methods}
        rows.append(Row(name, Comparison.of(ours, theirs, 1.0), dice))
        print(rows[-1], file=sys.stderr)
    return rows


def table(bundle: Bundle, cases: Sequence[Case], rows: Sequence[Row]) -> list[str]:
    """Markdown of one bundle."""
    modes = list(rows[0].dice)
    return [
        f"## {bundle.name} {bundle.version}",
        "",
        f"{len(cases)} labelled scans, each plain and mixed: {', '.join(case.name for case in cases)}. Fingerprint "
        f"{bundle.fingerprint[:12]}.",
        "",
        f"| runtime | within one level | largest | mean | 99.9 % | {' | '.join(f'Dice, {mode}' for mode in modes)} |",
        f"|---|---|---|---|---|{'---|' * len(modes)}",
        *(
            f"| {row.runtime} | {row.comparison.within_one_level:.6f} | {row.comparison.largest:.0f} | "
            f"{row.comparison.mean:.5f} | {row.comparison.quantile_999:.0f} | "
            f"{' | '.join(f'{row.dice[mode]:.5f}' for mode in modes)} |"
            for row in rows
        ),
        "",
    ]


def failures(rows: Sequence[Row]) -> list[str]:
    """What is not as it must be."""
    found = []
    for row in rows:
        if "float32" in row.runtime and row.comparison.within_one_level < LEAST_WITHIN_ONE_LEVEL:
            found.append(f"{row.runtime}: {row.comparison}")
        for mode, dice in row.dice.items():
            if abs(dice - rows[0].dice[mode]) > MOST_DICE:
                found.append(f"{row.runtime}, {mode}: Dice {dice:.5f}, of torch {rows[0].dice[mode]:.5f}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both shipped bundles and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path, required=True, help="BIDS folder with labels")
    parser.add_argument("--crops", type=Path, required=True, help="MSD folder; those that the training holds out")
    parser.add_argument("--scans", type=int, default=3, help="of each (3)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="markdown file")
    args = parser.parse_args(argv)
    lines, found = [], []
    for name, data in (("brain-t1", args.heads), ("hippocampus", args.crops)):
        bundle, config = load_bundle(name), load_config(name)
        region = config.segmenter.data.region
        cases = (find_heads(data, kind=kind_of(bundle)) if region is None else find_crops(data, region.held_out_every))[
            : args.scans
        ]
        rows = measure(bundle, config, cases)
        lines += table(bundle, cases, rows)
        found += failures(rows)
    head = [
        "# Runtimes compared",
        "",
        "The segmenter's answers over the wire, UINT8, of every runtime against those of torch in float32; and the",
        "mean Dice of what the client makes of them. One level is 1/255. No GPU and no TensorRT is in it: not run yet.",
        "FP16 convolutions are what TensorRT and PyTorch get on a GPU; here their products are summed in float32, then",
        "rounded. As served: without a precision hint, bfloat16 where the processor has it.",
        "",
        f"Machine: {hardware()}. Commit {commit()}.",
        "",
    ]
    foot = [f"Made by `python bench/parity.py --heads DIR --crops DIR --scans {args.scans} -o {args.output.name}`."]
    args.output.write_text("\n".join([*head, *lines, *foot]) + "\n", encoding="utf-8")
    print(args.output.read_text(encoding="utf-8"), end="")
    for failure in found:
        print(f"parity: {failure}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
