"""What privacy costs: ``python bench/overhead.py -o overhead.md`` (and ``overhead.json`` beside it).

The whole ``mixpriv-client segment``, mode against mode, with one warm tritonserver on this machine: seconds, processor
seconds, bytes on the wire, multiply-adds of the networks and the client's memory. Without a scan of yours (``--scan``)
it segments a drawn reference, a brain that nobody has. Modes take turns, so that what else the machine does meets all
of them; all runs of a mode must write the same label map.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import openvino as ov

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import ReferenceModel, draw_reference
from mixpriv.provenance import commit, hardware
from mixpriv.server.triton import TritonServer
from mixpriv.timing import STAGES

LEAST_ROUNDS = 5
"""With fewer turns an interval would say nothing."""


@dataclass(frozen=True)
class Mode:
    """A way to send a scan."""

    name: str
    references: int

    @property
    def options(self) -> list[str]:
        return ["--mode", self.name, "--references", str(self.references)]

    def __str__(self) -> str:
        return f"{self.name}, K = {self.references}" if self.name == "mixup" else self.name


@dataclass
class Costs:
    """What the runs of one mode took."""

    mode: Mode
    seconds: list[float] = field(default_factory=list)
    timings: list[dict[str, float]] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    label_maps: set[bytes] = field(default_factory=set)
    wire_bytes: int = 0

    def summary(self) -> dict[str, Any]:
        """Medians."""
        timings = {name: float(np.median([s[name] for s in self.timings])) for name in self.timings[0]}
        return {
            "mode": str(self.mode),
            "seconds": float(np.median(self.seconds)),
            "timings": timings,
            "client_cpu_s": float(np.median(self.cpu_s)),
            "client_peak_mb": float(np.median(self.peak_mb)),
            "wire_bytes": self.wire_bytes,
        }


def run(scan: Path, bundle: Bundle, address: str, home: Path, costs: Costs, scans: int, *, wire: bool) -> None:
    """Segment copies of a scan in one run of the command and add to the costs; the first scan only warms up.

    ``home`` is the user's, the same in every run: with another key a scan gets other references, and another map.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies = [folder / f"{k}.nii.gz" for k in range(scans + 1)]
        for copy in copies:
            shutil.copy(scan, copy)
        command = [sys.executable, "-m", "mixpriv.cli.client.main", "segment", *map(str, copies), *costs.mode.options]
        command += ["--bundle", str(bundle.directory), "--server", address, "--timeout", "600"]
        command += ["--one-by-one", "--allow-repeat", "--json"]
        command += ["--save-wire", str(folder / "wire")] if wire else []
        kept = {"XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data")}
        with (folder / "out").open("wb") as out:
            process = subprocess.Popen(command, stdout=out, env={**os.environ, **kept})
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"bench: {' '.join(command)} exited {process.returncode}")
        if wire:
            for path in (folder / "wire").rglob("request.json"):
                requests = json.loads(path.read_text())["requests"]
                costs.wire_bytes = sum(r[way]["bytes"] for r in requests for way in ("sent", "received"))
            return
        for told in json.loads((folder / "out").read_text())["scans"][1:]:
            costs.seconds.append(told["seconds"]["total"])
            costs.timings.append(told["seconds"])
            costs.label_maps.add(np.asarray(nib.Nifti1Image.from_filename(told["output"]).dataobj).tobytes())
        costs.cpu_s.append((used.ru_utime + used.ru_stime) / (scans + 1))
        costs.peak_mb.append(used.ru_maxrss * 1024 / 1e6)


def drawn_scan(bundle: Bundle, path: Path) -> Path:
    """Write a drawn reference as a skull-stripped scan, or as a crop's whole field of view."""
    image = draw_reference(ReferenceModel.load(bundle.reference_path), Keystream(bytes(32))).image
    voxels = np.asarray(image * 1000, np.int16)
    if bundle.crop is not None:
        size = [int(mm / bundle.spacing_mm) for mm in bundle.crop.max_mm]
        begin = [(n - s) // 2 for n, s in zip(voxels.shape, size, strict=True)]
        voxels = voxels[tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))]
    nib.save(nib.Nifti1Image(voxels, np.diag([*3 * [bundle.spacing_mm], 1.0])), path)
    return path


def multiply_adds(network: Path, grid: Sequence[int]) -> int:
    """Multiply-adds of all convolutions and matrix products of an ONNX network for one volume of a grid."""
    model = ov.Core().read_model(str(network))
    model.reshape({port: [1, port.get_partial_shape()[1].get_length(), *grid] for port in model.inputs})
    total = 0
    for operation in model.get_ordered_ops():
        kind = operation.get_type_name()
        if kind in ("Convolution", "GroupConvolution"):
            weights = list(operation.input(1).get_shape())
            total += prod(operation.output(0).get_shape()) * prod(weights[2 if kind.startswith("Group") else 1 :])
        elif kind in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
            weights = list(operation.input(1).get_shape())
            total += prod(operation.input(0).get_shape()) * prod(weights[2 if kind.startswith("Group") else 1 :])
        elif kind == "MatMul":
            total += prod(operation.output(0).get_shape()) * operation.input(0).get_shape()[-1]
    return total


def network_costs(bundle: Bundle) -> dict[str, int]:
    """Multiply-adds of a scan's segmenter and unmixer, for one mixture in the bundle's grid."""
    return {
        "segmenter": multiply_adds(bundle.segmenter_path, bundle.grid_shape),
        "unmixer": multiply_adds(bundle.unmixer_path, bundle.grid_shape),
    }


def ratio(own: Costs, plain: Costs, rounds: int) -> str:
    """Ratio of the median seconds, with a 95 % bootstrap interval over the rounds in which both took their turns."""
    one, other = (np.reshape(costs.seconds, (rounds, -1)) for costs in (own, plain))
    found = f"{np.median(one) / np.median(other):.2f}"
    if own is plain or rounds < LEAST_ROUNDS:
        return found
    drawn = np.random.default_rng(0).integers(0, rounds, (2000, rounds))
    low, high = np.percentile([np.median(one[d]) / np.median(other[d]) for d in drawn], (2.5, 97.5))
    return f"{found} [{low:.2f}, {high:.2f}]"


def report(bundle: Bundle, costs: list[Costs], rounds: int, networks: dict[str, int], command: str, scan: str) -> str:
    """The markdown page."""
    summaries = [one.summary() for one in costs]
    over = (
        f", with 95 % bootstrap intervals over {rounds} rounds in which the modes take turns"
        if rounds >= LEAST_ROUNDS
        else ""
    )
    lines = [
        f"# What privacy costs: {bundle.name}",
        "",
        f"`mixpriv-client segment` of {scan}, server on the same machine and warm,",
        f"scan after scan; medians of {len(costs[0].seconds)} scans. Ratios are to mode `none`{over}.",
        "Processor seconds and memory are the client's, the seconds of its start shared out over its scans.",
        "",
        f"Machine: {hardware()}. Bundle {bundle.name} {bundle.version}, commit {commit()}.",
        "",
        "| mode | seconds | ratio | CPU, s | on the wire, MB | segmenting, G multiply-adds | unmixing | memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one, summary in zip(costs, summaries, strict=True):
        views = one.mode.references
        unmixing = 0 if one.mode.name == "none" else views * networks["unmixer"]
        cells = [
            f"{one.mode} | {summary['seconds']:.3f} | {ratio(one, costs[0], rounds)}",
            f"{summary['client_cpu_s']:.2f} | {summary['wire_bytes'] / 1e6:.1f}",
            f"{views * networks['segmenter'] / 1e9:.1f} | {unmixing / 1e9:.2f} | {summary['client_peak_mb']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    names = [name for name in (*STAGES, "total") if any(name in summary["timings"] for summary in summaries)]
    lines += ["", "Seconds per stage:", "", f"| stage | {' | '.join(str(one.mode) for one in costs)} |"]
    lines.append("|---" * (len(costs) + 1) + "|")
    for name in names:
        lines.append(f"| {name} | " + " | ".join(f"{s['timings'].get(name, 0.0):.3f}" for s in summaries) + " |")
    return "\n".join([*lines, "", f"Made by `{command}`.", ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Run all modes and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="brain-t1", help="a shipped name or a folder (brain-t1)")
    parser.add_argument("--scan", type=Path, help="default: a drawn reference")
    parser.add_argument("--scans", type=int, default=3, help="per mode and round (3)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each mode (2)")
    parser.add_argument("--references", type=int, nargs="+", default=[1, 5], metavar="K", help="of mode mixup (1 5)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="markdown file; JSON is put beside it")
    args = parser.parse_args(argv)
    bundle = load_bundle(args.bundle)
    costs = [Costs(Mode("none", 1)), *(Costs(Mode("mixup", k)) for k in args.references)]
    costs += [Costs(Mode("shielded", 1))] if bundle.shielded else []
    with tempfile.TemporaryDirectory() as folder, TritonServer(bundle, host="127.0.0.1", port=0) as server:
        scan = args.scan or drawn_scan(bundle, Path(folder, "drawn.nii.gz"))
        shape = "x".join(map(str, nib.Nifti1Image.from_filename(scan).shape))
        for number in range(args.rounds + 1):
            for one in costs:
                run(
                    scan,
                    bundle,
                    server.address,
                    Path(folder, "home"),
                    one,
                    0 if number == 0 else args.scans,
                    wire=number == 0,
                )
                print(f"{one.mode}: round {number}", file=sys.stderr)
    if any(len(one.label_maps) != 1 for one in costs):
        raise SystemExit("bench: two runs on one scan gave different label maps")
    networks = network_costs(bundle)
    command = f"python bench/overhead.py --bundle {Path(args.bundle).name} {'--scan SCAN ' if args.scan else ''}"
    command += f"--scans {args.scans} --rounds {args.rounds} --references {' '.join(map(str, args.references))}"
    command += f" -o {args.output.name}"
    facts = {"machine": hardware(), "commit": commit(), "bundle": bundle.name, "fingerprint": bundle.fingerprint}
    document = {**facts, "command": command, "multiply_adds": networks, "modes": [one.summary() for one in costs]}
    args.output.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    what = f"{'a scan' if args.scan else 'a drawn reference'} of {shape} voxels"
    args.output.write_text(report(bundle, costs, args.rounds, networks, command, what), encoding="utf-8")
    print(args.output.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
