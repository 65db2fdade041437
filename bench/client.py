"""A client's own work on a scan, its networks and gzip aside: ``python bench/client.py -o FILE.md`` (JSON beside it).

The code of ``mixpriv-client segment`` in this process, from a file to the bytes of a label map, neither zipped. The
server is stood in for by its network in this process. Whatever a network takes is clocked and left out; waiting for a
reference that is being drawn is not. Without a scan (``--scan``) it is a drawn brain in 256³ voxels of 1 mm. The times
are those of the fastest of several warm runs, which must all give the same label map; the median of all is told too.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mixpriv import engine, kernels
from mixpriv.bundle import Bundle, load_bundle
from mixpriv.client.pipeline import Pipeline, open_pipeline
from mixpriv.client.segment import finish, prepare
from mixpriv.engine import Engine
from mixpriv.imaging.volume import encode_labels, load_volume
from mixpriv.key import load_or_create_key
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.modes import named
from mixpriv.protection.reference import ReferenceModel, draw_reference
from mixpriv.provenance import commit, hardware
from mixpriv.timing import STAGES, Timings

WHAT = {
    "load": "file to float32, its values checked",
    "extract": "block means, two samplings, robust ranges, component and holes",
    "conform": "sampling, mask, robust range, checks",
    "protect": "likeness; waiting for the digest, the reference and the mixture",
    "ledger": "one SQLite transaction",
    "reveal": "unpack, unmix; what is left of the unmixer's call",
    "restore": "labels in the scan's grid",
    "report": "voxels of each class",
    "save": "the file's bytes",
}


@dataclass
class Clock:
    """A network, and the seconds it took."""

    network: Engine
    seconds: float = 0.0

    def __call__(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        begin = time.perf_counter()
        try:
            return self.network(**inputs)
        finally:
            self.seconds += time.perf_counter() - begin


@dataclass
class Bench:
    """A pipeline all of whose networks are clocked, the server's among them."""

    bundle: Bundle
    clocks: list[Clock] = field(default_factory=list)
    leaves_machine: ClassVar[bool] = False
    deliveries: ClassVar[tuple[()]] = ()
    address: ClassVar[str] = "this process"

    def open(self, mode: str) -> Pipeline:
        """The pipeline as ``mixpriv-client`` opens it."""
        self.clocks.clear()
        load = engine.load

        def clocked(*args: Any, **how: Any) -> Clock:
            self.clocks.append(Clock(load(*args, **how)))
            return self.clocks[-1]

        with patch.object(engine, "load", clocked):
            self.segmenter = engine.load(self.bundle.segmenter_path)
            return open_pipeline(self.bundle, named(mode), load_or_create_key(), self)

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Answer as the server would."""
        return self.segmenter(mixture=mixture)["segmentation_mixture"]

    def run(self, scan: Path, pipeline: Pipeline) -> tuple[dict[str, float], bytes]:
        """Segment a scan; seconds of each stage without its networks, and the label map's file."""
        timings, networks = Timings(), dict.fromkeys(STAGES, 0.0)
        for clock in self.clocks:
            clock.seconds = 0.0
        with timings("load"):
            volume = load_volume(scan, self.bundle.modalities)
        prepared = prepare(volume, pipeline, timings)
        networks["extract"] = sum(clock.seconds for clock in self.clocks)
        result = finish(prepared, pipeline, timings)
        networks["server"] = self.clocks[0].seconds
        networks["reveal"] = sum(clock.seconds for clock in self.clocks) - networks["extract"] - networks["server"]
        with timings("report"):
            _ = result.volumes
        with timings("save"):
            labels = encode_labels(result.labels, volume)
        return {name: timings.seconds[name] - networks[name] for name in WHAT if name in timings.seconds}, labels


def drawn_scan(bundle: Bundle, size: int, path: Path) -> Path:
    """Write a drawn brain in the middle of size³ voxels of 1 mm, axes left, posterior, superior as scanners have it."""
    image = draw_reference(ReferenceModel.load(bundle.reference_path), Keystream(bytes(32))).image
    scale = 1.0 / bundle.spacing_mm
    first = [(n - 1) / 2 - scale * (size - 1) / 2 for n in image.shape]
    wide = kernels.resample(image, np.column_stack([scale * np.eye(3), first]), (size, size, size))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    nib.save(nib.Nifti1Image(np.asarray(wide[::-1, ::-1] * 1000, np.int16), affine), path)
    return path


def measure(bench: Bench, scan: Path, mode: str, warm: int) -> list[dict[str, float]]:
    """The warm runs, fastest first."""
    pipeline = bench.open(mode)
    runs = [bench.run(scan, pipeline) for _ in range(warm + 1)][1:]
    if len({labels for _, labels in runs}) != 1 or not any(runs[0][1][352:]):
        raise SystemExit(f"bench: mode {mode}: runs on one scan gave different or empty label maps")
    return sorted((seconds for seconds, _ in runs), key=lambda seconds: sum(seconds.values()))


def table(modes: dict[str, list[dict[str, float]]], shape: str, bundle: Bundle, command: str) -> str:
    """The markdown page."""
    lines = [
        "# The client's own work",
        "",
        f"Milliseconds of the fastest warm run on a scan of {shape} voxels, networks and gzip aside; in mode",
        "mixup with one reference, drawn on the other core meanwhile.",
        f"Machine: {hardware()}. Bundle {bundle.name} {bundle.version}, commit {commit()}.",
        "",
        f"| stage | what | {' | '.join(modes)} |",
        "|---|---|" + "---|" * len(modes),
    ]
    for name, what in WHAT.items():
        cells = [f"{1e3 * runs[0][name]:.1f}" if name in runs[0] else "" for runs in modes.values()]
        lines.append(f"| {name} | {what} | {' | '.join(cells)} |")
    sums = [[1e3 * sum(seconds.values()) for seconds in runs] for runs in modes.values()]
    lines.append(f"| all | | {' | '.join(f'{one[0]:.1f}' for one in sums)} |")
    lines.append(f"| | median of {len(sums[0])} runs | {' | '.join(f'{np.median(one):.1f}' for one in sums)} |")
    return "\n".join([*lines, "", f"Made by `{command}`.", ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both modes and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="brain-t1", help="a shipped name or a folder (brain-t1)")
    parser.add_argument("--scan", type=Path, help="not zipped; default: a drawn brain")
    parser.add_argument("--size", type=int, default=256, help="voxels of the drawn scan along each axis (256)")
    parser.add_argument("--warm", type=int, default=20, help="warm runs per mode (20)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="markdown file; JSON is put beside it")
    args = parser.parse_args(argv)
    bundle = load_bundle(args.bundle)
    bench = Bench(bundle)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_CONFIG_HOME": f"{folder}/config", "XDG_DATA_HOME": f"{folder}/data"}
        scan = args.scan or drawn_scan(bundle, args.size, Path(folder, "drawn.nii"))
        shape = "x".join(map(str, nib.Nifti1Image.from_filename(scan).shape))
        modes = {mode: measure(bench, scan, mode, args.warm) for mode in ("none", "mixup")}
    source = "--scan SCAN" if args.scan else f"--size {args.size}"
    command = (
        f"python bench/client.py --bundle {Path(args.bundle).name} {source} --warm {args.warm} -o {args.output.name}"
    )
    facts = {"machine": hardware(), "commit": commit(), "bundle": bundle.name, "shape": shape, "command": command}
    args.output.with_suffix(".json").write_text(
        json.dumps({**facts, "seconds": modes}, indent=1) + "\n", encoding="utf-8"
    )
    args.output.write_text(table(modes, shape, bundle, command), encoding="utf-8")
    print(args.output.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
