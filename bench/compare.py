"""Is one checkout as fast as another? ``python bench/compare.py OLD NEW --scan scan.nii.gz --modes none mixup``.

Each checkout has an environment of its own (``.venv``), in which it is installed. The whole ``mixpriv-client segment``
runs by turns, start of its own server included; with ``--warm`` several scans in one run, of which the first does not
count. Printed is the median over the pairs of the ratio new/old, with its 95 % interval (bootstrap over the pairs), of
wall-clock seconds and of processor seconds, the server's included.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEAST_PAIRS = 30
RESAMPLES = 10_000


@dataclass(frozen=True)
class Cost:
    """What one run took, seconds."""

    wall_s: float
    processor_s: float


@dataclass(frozen=True)
class Ratio:
    """A median ratio and its 95 % interval."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(new: NDArray[np.float64], old: NDArray[np.float64]) -> Ratio:
        """Get the ratio of paired figures."""
        ratios = new / old
        drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
        low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
        return Ratio(float(np.median(ratios)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def run(checkout: Path, scan: Path, options: Sequence[str], home: Path, scans: int) -> Cost:
    """Segment a scan, or copies of it with ``scans`` above 1, where the first copy only warms up."""
    with tempfile.TemporaryDirectory() as name:
        copies = [Path(name, f"{k}-{scan.name}") for k in range(scans)]
        for copy in copies:
            shutil.copy(scan, copy)
        command = [str(checkout / ".venv/bin/mixpriv-client"), "segment", *map(str, copies), *options, "--json"]
        kept = {"XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data")}
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, **kept}, cwd=name, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        told, complaint = process.communicate()
        wall_s = time.perf_counter() - begin
        if process.returncode:
            raise SystemExit(f"bench: {' '.join(command)} exited {process.returncode}: {complaint.decode()}")
    if scans > 1:
        wall_s = float(np.mean([entry["seconds"]["total"] for entry in json.loads(told)["scans"][1:]]))
    return Cost(wall_s, 0.0)


def measured(checkout: Path, scan: Path, options: Sequence[str], home: Path, scans: int) -> Cost:
    """Run, with the processor seconds of the command and of all that it started and waited for."""
    before = os.times()
    cost = run(checkout, scan, options, home, scans)
    after = os.times()
    used = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return Cost(cost.wall_s, used)


@dataclass(frozen=True)
class Side:
    """A checkout, and the options that it alone is given."""

    checkout: Path
    options: tuple[str, ...]


def compare(old: Side, new: Side, scan: Path, mode: str, pairs: int, scans: int) -> dict[str, Ratio | float]:
    """Run both sides by turns: old new, new old, old new, and so on."""
    costs: dict[Side, list[Cost]] = {old: [], new: []}
    with tempfile.TemporaryDirectory() as name:
        homes = {old: Path(name, "old"), new: Path(name, "new")}
        for pair in range(pairs + 1):
            for side in (old, new) if pair % 2 else (new, old):
                cost = measured(side.checkout, scan, ["--mode", mode, *side.options], homes[side], scans)
                if pair:  # the first pair fills caches
                    costs[side].append(cost)
    wall = {side: np.array([cost.wall_s for cost in costs[side]]) for side in costs}
    processor = {side: np.array([cost.processor_s for cost in costs[side]]) for side in costs}
    return {
        "old_s": float(np.median(wall[old])),
        "new_s": float(np.median(wall[new])),
        "wall": Ratio.of(wall[new], wall[old]),
        "processor": Ratio.of(processor[new], processor[old]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two checkouts mode by mode and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout with .venv")
    parser.add_argument("new", type=Path, help="another one")
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--modes", nargs="+", default=["none", "mixup", "shielded", "local"])
    parser.add_argument("--pairs", type=int, default=LEAST_PAIRS, help="runs of each checkout (default: %(default)s)")
    parser.add_argument(
        "--warm", type=int, default=0, metavar="N", help="count the time of N scans after the first of each run"
    )
    parser.add_argument("--old-options", default="", metavar="TEXT", help="options of segment for the old one alone")
    parser.add_argument("--new-options", default="", metavar="TEXT", help="the same for the new one")
    arguments = parser.parse_args(argv)
    if arguments.pairs < LEAST_PAIRS:
        parser.error(f"--pairs: expected at least {LEAST_PAIRS}, got {arguments.pairs}")
    print("| mode | old, s | new, s | wall clock, new/old | processor, new/old |\n|---|---|---|---|---|")
    for mode in arguments.modes:
        old = Side(arguments.old.resolve(), tuple(shlex.split(arguments.old_options)))
        new = Side(arguments.new.resolve(), tuple(shlex.split(arguments.new_options)))
        found = compare(old, new, arguments.scan, mode, arguments.pairs, 1 + arguments.warm)
        print(
            f"| `{mode}` | {found['old_s']:.2f} | {found['new_s']:.2f} | {found['wall']} | {found['processor']} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
