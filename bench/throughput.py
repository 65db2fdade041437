"""What a server holds: ``python bench/throughput.py -o throughput.md`` (and ``throughput.json`` beside it).

Real requests to a real tritonserver, by 1 to 16 clients that each ask again as soon as they are answered. What they
send are mixtures of drawn references (mode ``mixup``) or a drawn reference alone (mode ``none``), the size and kind of
what a client sends; no scan is needed. Every answer is compared with the same network's in this process.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from mixpriv import kernels
from mixpriv.bundle import Bundle, load_bundle
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import ReferenceModel, draw_reference
from mixpriv.provenance import commit, hardware
from mixpriv.server.health import Statistics, statistics
from mixpriv.server.triton import TritonServer
from mixpriv.wire.address import Address
from mixpriv.wire.messages import encode_request
from mixpriv.wire.servers import ServerPool

VOLUMES = 2
"""Different volumes of each mode."""

TIMEOUT_S = 600.0

LEAST_ALIKE = 0.95
"""Of an answer's values within one level of 255. In bfloat16 a batch of another size leaves .989 of a mixture's; this
is to find answers to another request."""


@dataclass
class Side:
    """What one side used while a load lasted."""

    cpu_s: float = 0.0
    peak_bytes: int = 0


@dataclass
class Load:
    """One mode at one concurrency."""

    mode: str
    clients: int
    requests: int
    seconds: float
    latencies_s: list[float] = field(repr=False)
    server: dict[str, float]
    server_side: Side
    client_side: Side
    bytes_in: int
    bytes_out: int
    worst_difference: int
    """Levels of 255 between an answer and the one computed in this process."""
    least_alike: float
    """Of an answer's values, the share within one level of those computed in this process."""

    def summary(self) -> dict[str, Any]:
        """Rates and shares, for the table."""
        p50, p95, p99 = np.percentile(self.latencies_s, (50, 95, 99))
        count = self.requests
        return {
            "mode": self.mode,
            "clients": self.clients,
            "requests": count,
            "scans_per_s": count / self.seconds,
            "p50_s": p50,
            "p95_s": p95,
            "p99_s": p99,
            "queue_s": self.server["queue_s"] / count,
            "inference_s": self.server["infer_s"] / count,
            "busy": self.server["busy_s"] / self.seconds,
            "per_execution": count / self.server["executions"],
            "added_s": float(np.mean(self.latencies_s)) - (self.server["queue_s"] + self.server["infer_s"]) / count,
            "server_cpu_s": self.server_side.cpu_s / count,
            "server_mb": self.server_side.peak_bytes / 1e6,
            "client_cpu_s": self.client_side.cpu_s / count,
            "client_mb": self.client_side.peak_bytes / 1e6,
            "mb_in": self.bytes_in / 1e6,
            "mb_out": self.bytes_out / 1e6,
            "worst_difference": self.worst_difference,
            "least_alike": self.least_alike,
        }


def volumes(bundle: Bundle, mode: str) -> list[np.ndarray]:
    """Different volumes (1, 1, D, H, W) as a client of this mode sends them."""
    model = ReferenceModel.load(bundle.reference_path)
    weight = 1.0 if mode == "none" else sum(bundle.weight_range) / 2
    made = []
    for number in range(VOLUMES):
        target, other = (draw_reference(model, Keystream(bytes([number, which]) * 16)) for which in (0, 1))
        reference = (None, None) if mode == "none" else (other.image, other.mask)
        made.append(kernels.mix(target.image, target.mask, (0.0, 1.0), *reference, weight)[None, None])
    return made


@contextmanager
def watched(processes: Sequence[psutil.Process]) -> Iterator[Side]:
    """Processor seconds and the greatest resident memory of some processes together, while it lasts."""
    side, done = Side(), threading.Event()

    def cpu_s() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    def sample() -> None:
        while not done.wait(0.1):
            side.peak_bytes = max(side.peak_bytes, sum(process.memory_info().rss for process in processes))

    before, sampler = cpu_s(), threading.Thread(target=sample)
    sampler.start()
    try:
        yield side
    finally:
        done.set()
        sampler.join()
        side.cpu_s = cpu_s() - before


class Clients:
    """Some clients that take requests off one pile until it is empty."""

    def __init__(self, server: TritonServer, sent: list[np.ndarray], count: int, requests: int) -> None:
        self.server, self.sent, self.count = server, sent, count
        in_process = InProcessSegmenter(server.bundle.segmenter_path)
        self.expected = [in_process.segment(volume).astype(np.int16) for volume in sent]
        self.latencies_s: list[float] = []
        self.worst_difference, self.least_alike = 0, 1.0
        self._pile = iter(range(requests))
        self._lock = threading.Lock()
        self._ready = threading.Barrier(count + 1)

    def run(self) -> tuple[float, Statistics]:
        """Empty the pile; seconds, and what the server says it did."""
        with ThreadPoolExecutor(self.count) as pool:
            asking = [pool.submit(self._ask) for _ in range(self.count)]
            self._ready.wait()
            before, begin = served(self.server), time.perf_counter()
            for one in asking:
                one.result()
            seconds = time.perf_counter() - begin
        return seconds, served(self.server).since(before)

    def _ask(self) -> None:
        address = Address.parse(self.server.address)
        with ServerPool([address], self.server.contract, timeout_s=TIMEOUT_S) as segmenter:
            segmenter.check()
            self._ready.wait()
            while True:
                with self._lock:
                    number = next(self._pile, None)
                if number is None:
                    return
                self._ask_once(segmenter, number % len(self.sent))

    def _ask_once(self, segmenter: ServerPool, which: int) -> None:
        begin = time.perf_counter()
        answer = segmenter.segment(self.sent[which])
        took = time.perf_counter() - begin
        difference = np.abs(answer - self.expected[which])
        with self._lock:
            self.latencies_s.append(took)
            self.worst_difference = max(self.worst_difference, int(difference.max()))
            self.least_alike = min(self.least_alike, float((difference <= 1).mean()))


def served(server: TritonServer) -> Statistics:
    """What the server has served so far."""
    so_far = statistics(server)
    if so_far is None:
        raise SystemExit("bench: the server does not tell what it served")
    return so_far


def load(server: TritonServer, mode: str, sent: list[np.ndarray], clients: int, requests: int) -> Load:
    """Ask so often with so many clients at once, check every answer, and tell what it took."""
    asking = Clients(server, sent, clients, requests)
    process = psutil.Process(server.pid)
    with (
        watched([process, *process.children(recursive=True)]) as server_side,
        watched([psutil.Process()]) as client_side,
    ):
        seconds, done = asking.run()
    return Load(
        mode=mode,
        clients=clients,
        requests=requests,
        seconds=seconds,
        latencies_s=asking.latencies_s,
        server=asdict(done),
        server_side=server_side,
        client_side=client_side,
        bytes_in=encode_request(server.contract, sent[0]).ByteSize(),
        bytes_out=asking.expected[0].size,
        worst_difference=asking.worst_difference,
        least_alike=asking.least_alike,
    )


EXPLANATION = """\
Requests of {mb_in:.1f} MB, answers of {mb_out:.1f} MB, by clients on the server's own machine and cores, each asking
again when it is answered. Means are per request. `queue` and `inference` are Triton's own figures, `added` is all else
of the mean latency (wire, Triton, Python backend, checks at both ends); `busy` is the share of the time in which the
model was at work, `batch` the requests of one execution. Each answer is compared with the one that the same network
gives in one process, alone: `worst` is the greatest difference in levels of 255, `alike` the share of the values within
one level, of the answer that has fewest (in bfloat16 a batch of another size is computed in another order). Memory: the
greatest resident set of all processes of a side."""

COLUMNS = (
    ("mode", "mode", "{}"),
    ("clients", "clients", "{}"),
    ("requests", "requests", "{}"),
    ("scans_per_s", "scans/s", "{:.2f}"),
    ("p50_s", "p50, s", "{:.3f}"),
    ("p95_s", "p95, s", "{:.3f}"),
    ("p99_s", "p99, s", "{:.3f}"),
    ("queue_s", "queue, s", "{:.3f}"),
    ("inference_s", "inference, s", "{:.3f}"),
    ("added_s", "added, s", "{:.3f}"),
    ("busy", "busy", "{:.0%}"),
    ("per_execution", "batch", "{:.2f}"),
    ("server_cpu_s", "server CPU, s", "{:.2f}"),
    ("server_mb", "server, MB", "{:.0f}"),
    ("client_cpu_s", "client CPU, s", "{:.2f}"),
    ("client_mb", "client, MB", "{:.0f}"),
    ("worst_difference", "worst", "{}"),
    ("least_alike", "alike", "{:.4f}"),
)


def report(bundle: Bundle, loads: list[Load], command: str) -> str:
    """The markdown page."""
    first = loads[0].summary()
    lines = [
        f"# Throughput: {bundle.name}",
        "",
        EXPLANATION.format(**first),
        "",
        f"Machine: {hardware()}. Bundle {bundle.name} {bundle.version}, commit {commit()}.",
        "",
        "| " + " | ".join(title for _, title, _ in COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for one in loads:
        summary = one.summary()
        lines.append("| " + " | ".join(form.format(summary[name]) for name, _, form in COLUMNS) + " |")
    return "\n".join([*lines, "", f"Made by `{command}`.", ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Run all loads and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="brain-t1", help="a shipped name or a folder (brain-t1)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="at once (1 2 4 8 16)")
    parser.add_argument("--modes", nargs="+", choices=("none", "mixup"), default=["none", "mixup"])
    parser.add_argument("--requests", type=int, default=32, help="per load, at least (32)")
    parser.add_argument("--threads", type=int, help="inference threads (all that are allowed)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="markdown file; JSON is put beside it")
    args = parser.parse_args(argv)
    bundle = load_bundle(args.bundle)
    sent = {mode: volumes(bundle, mode) for mode in args.modes}
    loads = []
    with TritonServer(bundle, host="127.0.0.1", port=0, threads=args.threads) as server:
        for mode in args.modes:
            load(server, mode, sent[mode], 1, 2)  # memory and caches settle
        for clients in args.clients:
            for mode in args.modes:  # side by side: the machine's other work is the same for both
                loads.append(load(server, mode, sent[mode], clients, max(args.requests, 2 * clients)))
                print(json.dumps(loads[-1].summary(), default=float), flush=True)
    command = (
        f"python bench/throughput.py --bundle {Path(args.bundle).name} --clients {' '.join(map(str, args.clients))}"
    )
    command += f" --modes {' '.join(args.modes)} --requests {args.requests} -o {args.output.name}"
    facts = {"machine": hardware(), "commit": commit(), "bundle": bundle.name, "fingerprint": bundle.fingerprint}
    document = {**facts, "command": command, "loads": [one.summary() for one in loads]}
    args.output.with_suffix(".json").write_text(json.dumps(document, indent=2, default=float) + "\n", encoding="utf-8")
    args.output.write_text(report(bundle, loads, command), encoding="utf-8")
    print(args.output.read_text(encoding="utf-8"), end="")
    if any(one.least_alike < LEAST_ALIKE for one in loads):
        raise SystemExit("bench: an answer is not the one computed in this process")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
