"""What a cohort costs: processor time and memory of client and server over many scans in one run.

python bench/cohort.py SCAN [SCAN ...] --scans 200 --mode mixup -o docs/results/data/cohort.json

Copies of the scans are made, each with a voxel of its own, and segmented by one command. Every half second the memory
and processor time of the client and of all that it started are read. psutil is needed (extra dev).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from isal import igzip

from mixpriv import provenance
from mixpriv.threads import available_threads

_EVERY_S = 0.5
_VOXEL = 100_000  # bytes from the end, where every scan has voxels


def copies(scans: list[Path], count: int, folder: Path) -> None:
    """Write copies of gzipped scans, no two alike."""
    folder.mkdir()
    for number in range(count):
        content = bytearray(igzip.decompress(scans[number % len(scans)].read_bytes()))
        content[-_VOXEL - 2 * number] ^= 1
        (folder / f"scan{number:04d}.nii.gz").write_bytes(igzip.compress(bytes(content), 1))


def sample(process: psutil.Process) -> tuple[float, float, int]:
    """Processor seconds of a process and of those that it started, and its resident memory in MiB."""
    own = process.cpu_times()
    others = 0.0
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            others += sum(child.cpu_times()[:2])
    return own.user + own.system, others, process.memory_info().rss >> 20


def measure(folder: Path, out: Path, options: list[str], home: Path) -> dict[str, Any]:
    """Segment a folder; figures at its end, and memory by the number of scans that are done."""
    environment = os.environ | {"XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data")}
    command = [sys.executable, "-m", "mixpriv.cli.client", "segment", str(folder), "-o", str(out), *options]
    begin, client_s, server_s, memory = time.monotonic(), 0.0, 0.0, dict[int, int]()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            with contextlib.suppress(psutil.Error):
                client_s, others, mib = sample(process)
                server_s = max(server_s, others)
                memory[sum(1 for _ in out.glob("*_dseg.nii.gz"))] = mib
            time.sleep(_EVERY_S)
    return {
        "exit_code": running.returncode,
        "wall_s": round(time.monotonic() - begin, 1),
        "client_cpu_s": round(client_s, 1),
        "server_cpu_s": round(server_s, 1),
        "client_mib": memory,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", nargs="+", type=Path)
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--mode", default="mixup")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        copies(arguments.scan, arguments.scans, work / "scans")
        found = measure(work / "scans", work / "out", ["--mode", arguments.mode], work)
    cores = available_threads()
    bound = (found["client_cpu_s"] + found["server_cpu_s"]) / cores
    document = {
        "machine": provenance.hardware(),
        "commit": provenance.commit(),
        "command": f"python bench/cohort.py SCANS --scans {arguments.scans} --mode {arguments.mode}",
        "scans": arguments.scans,
        "mode": arguments.mode,
        "cores": cores,
        "wall_over_cpu_per_core": round(found["wall_s"] / bound, 3),
        **found,
    }
    arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
