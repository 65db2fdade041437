"""Seconds per stage of ``mixpriv-client segment``, mode against mode: ``python bench/stages.py SCAN -o FILE``.

Each mode is one run of the installed command on copies of the scan: the first pays for starting the embedded server
and for warming up, the median of the others is what a warm server takes. The answer is checked: all warm runs of a
mode must write the same label map.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mixpriv.bundle import load_bundle
from mixpriv.provenance import commit, hardware
from mixpriv.timing import STAGES


def run(scan: Path, mode: str, warm: int) -> dict[str, Any]:
    """Segment ``warm + 1`` copies of a scan in one run; the command's JSON report."""
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder, f"{k}.nii.gz") for k in range(warm + 1)]
        for copy in copies:
            shutil.copy(scan, copy)
        command = [
            sys.executable,
            "-m",
            "mixpriv.cli.client.main",
            "segment",
            *map(str, copies),
            "--mode",
            mode,
            "--server",
            "embedded",
            "--json",
        ]
        command.append("--one-by-one")  # a scan prepared meanwhile would take its share of the cores
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"bench: {' '.join(command)} exited {done.returncode}: {done.stderr.strip()}")
        maps = [np.asarray(nib.Nifti1Image.from_filename(Path(folder, f"{k}_dseg.nii.gz")).dataobj) for k in (1, warm)]
        if not maps[0].any() or not np.array_equal(*maps):
            raise SystemExit(f"bench: mode {mode}: two runs on one scan gave different or empty label maps")
        report: dict[str, Any] = json.loads(done.stdout)
        return report


def rows(report: dict[str, Any]) -> list[str]:
    """Table cells of one mode: first run, then the median of the warm ones, per stage and in all."""
    seconds = [scan["seconds"] for scan in report["scans"]]
    timings = [stage for stage in (*STAGES, "total") if stage in seconds[0]]
    cells = []
    for stage in timings:
        warm = float(np.median([s[stage] for s in seconds[1:]]))
        cells.append(f"| {report['mode']} | {stage} | {seconds[0][stage]:.3f} | {warm:.3f} |")
    return [f"| {report['mode']} | start of server and networks | {report['start_seconds']:.3f} | |", *cells]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all modes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--warm", type=int, default=4, help="warm runs per mode (4)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="markdown file")
    args = parser.parse_args(argv)
    shape = nib.Nifti1Image.from_filename(args.scan).shape
    reports = [run(args.scan, mode, max(2, args.warm)) for mode in ("none", "mixup")]
    bundle = load_bundle()
    lines = [
        "# Seconds per stage",
        "",
        f"`mixpriv-client segment` on a scan of {'x'.join(map(str, shape))} voxels with an embedded server, K = 1.",
        f"Machine: {hardware()}. Bundle {bundle.name} {bundle.version}, commit {commit()};",
        f"median of {args.warm} warm runs.",
        "",
        "| mode | stage | first scan, s | warm, s |",
        "|---|---|---|---|",
        *(row for report in reports for row in rows(report)),
        "",
        f"Made by `python bench/stages.py SCAN --warm {args.warm} -o {args.output.name}`.",
    ]
    args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(args.output.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
