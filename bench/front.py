"""What Envoy costs, and whether a site that floods harms another: ``python bench/front.py -o front.md``.

A front with Envoy and a tritonserver that ends mutual TLS itself are asked by turns, since other programs use the
machine too. Then one site asks one request after the other, while another uses exactly its quota, or floods, by turns.
The other site is a process of its own, of the lowest priority: it stands for another machine.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.provenance import commit, hardware
from mixpriv.server.access import Access, ServerTls
from mixpriv.server.certificates import Authority
from mixpriv.server.envoy import Certificates
from mixpriv.server.events import EventLog
from mixpriv.server.fronted import FrontedServer, FrontOptions
from mixpriv.server.health import infer_zeros
from mixpriv.server.sites import Site
from mixpriv.server.surroundings import free_port
from mixpriv.server.triton import TritonServer
from mixpriv.wire.address import Address
from mixpriv.wire.channel import open_channel
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.messages import encode_request
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.transport import GrpcSegmenter

FLOOD = 20
"""Times its quota."""

LIMITS = {"added_ms": 3.0, "throughput_lost": 0.05, "flood_costs": 0.20}
CALLS, CLIENTS = 100, 4


@dataclass(frozen=True)
class Place:
    """A server, and how a site gets in."""

    address: str
    bundle: Bundle
    tls: TlsOptions

    def open(self) -> GrpcSegmenter:
        """A connection to it."""
        return GrpcSegmenter(self.address, SegmenterContract.of(self.bundle), tls=self.tls, timeout_s=120)


@contextlib.contextmanager
def servers(bundle: Bundle, folder: Path, other: Site) -> Iterator[tuple[Place, Place, Place]]:
    """Triton behind mutual TLS of its own; Triton behind Envoy for one site, and for the other."""
    authority = Authority.init(folder / "ca", "bench")
    trust = authority.folder / "authority.pem"
    own = authority.issue("server", "node", ["localhost"])
    parties = {name: authority.issue("site", name) for name in ("steady", other.name)}
    tls = {name: TlsOptions(trust, path, path.with_suffix(".key"), "localhost") for name, path in parties.items()}
    steady = Site("steady", requests_per_minute=1200, burst=1200, at_once=2 * CLIENTS, waiting=2 * CLIENTS)
    files = Certificates(own, own.with_suffix(".key"), trust, authority.folder / "revoked.crl")
    options = FrontOptions("127.0.0.1", free_port("127.0.0.1", 0), files, [steady, other], folder / "log")
    probe = (parties["steady"], parties["steady"].with_suffix(".key"))
    access = Access(ServerTls(own, own.with_suffix(".key"), trust, probe))
    with (
        TritonServer(bundle, host="127.0.0.1", port=0, access=access, stop_timeout_s=0) as direct,
        FrontedServer(bundle, options, EventLog()) as front,
    ):
        yield (
            Place(direct.address, bundle, tls["steady"]),
            Place(front.address, bundle, tls["steady"]),
            Place(front.address, bundle, tls[other.name]),
        )


def by_turns(rounds: int, ways: Sequence[Callable[[], float]]) -> list[list[float]]:
    """What each way gives, round by round; every other round in reverse order."""
    found: list[list[float]] = [[] for _ in ways]
    for number in range(rounds):
        for which in range(len(ways))[:: 1 if number % 2 else -1]:
            found[which].append(ways[which]())
        print(json.dumps([values[-1] for values in found]), flush=True)
    return found


def small_calls_ms(rounds: int, places: Sequence[Place]) -> list[list[float]]:
    """Of a call without a volume, in turn at each place, each on one connection: the fastest tenth of each round.

    The others show when other programs had the machine.
    """
    found: list[list[float]] = [[] for _ in places]
    with contextlib.ExitStack() as stack:
        sites = [stack.enter_context(place.open()) for place in places]
        for site in sites:
            site.check()
        for _ in range(rounds):
            pairs = [[1000 * _seconds(site.check) for site in sites] for _ in range(CALLS)]
            for values, times in zip(found, zip(*pairs, strict=True), strict=True):
                values.append(statistics.quantiles(times, n=10)[0])
    print(json.dumps(found), flush=True)
    return found


def throughput(place: Place) -> float:
    """Requests per second of some clients, each on a connection of its own."""
    contract = SegmenterContract.of(place.bundle)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        sites = [stack.enter_context(place.open()) for _ in range(CLIENTS)]
        for site in sites:
            site.check()

        def ask(site: GrpcSegmenter) -> None:
            for _ in range(4):
                infer_zeros(site, contract)

        return 4 * CLIENTS / _seconds(lambda: list(pool.map(ask, sites)))


def latency_s(place: Place, seconds: float) -> float:
    """Median of a site's requests, one after the other, for so long."""
    contract, end, found = SegmenterContract.of(place.bundle), time.monotonic() + seconds, []
    with place.open() as site:
        site.check()
        while time.monotonic() < end:
            found.append(_seconds(lambda: infer_zeros(site, contract)))
    return statistics.median(found)


def beside(other: Place, per_s: float, measure: Callable[[], float], counts: dict[str, int]) -> float:
    """What is measured while another site asks so often, and how many of its requests were answered or refused."""
    context = multiprocessing.get_context("spawn")
    seen = context.Array("q", 2)
    process = context.Process(target=keep_asking, args=(other, per_s, seen))
    process.start()
    try:
        while sum(seen) < 3:
            time.sleep(0.05)
        before = list(seen)
        value = measure()
        for which, name in enumerate(("answered", "refused")):
            counts[name] = counts.get(name, 0) + seen[which] - before[which]
        return value
    finally:
        process.kill()
        process.join()


def keep_asking(place: Place, per_s: float, seen: Any) -> None:
    """Ask for inferences at this rate, whatever the answers, over one connection, while our parent lives."""
    import grpc

    os.nice(19)
    contract = SegmenterContract.of(place.bundle)
    request = encode_request(contract, np.zeros((1, *contract.mixture.shape), np.float16)).SerializeToString()
    with open_channel(Address.parse(place.address), place.tls) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        def count(future: Any) -> None:
            which = 0 if future.code() is grpc.StatusCode.OK else 1
            with seen.get_lock():
                seen[which] += 1

        begin, parent = time.monotonic(), multiprocessing.parent_process()
        for number in itertools.count():
            if parent is None or not parent.is_alive():
                return
            time.sleep(max(0.0, begin + number / per_s - time.monotonic()))
            call.future(request, timeout=60).add_done_callback(count)


def _seconds(action: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def measured(bundle: Bundle, rounds: int, window_s: float) -> dict[str, Any]:
    """All three comparisons."""
    with tempfile.TemporaryDirectory() as folder:
        quota = Site("other", requests_per_minute=60, burst=2, at_once=1, waiting=1)
        with servers(bundle, Path(folder), quota) as (direct, front, other):
            calls = small_calls_ms(rounds, [direct, front])
            rates = by_turns(rounds, [lambda: throughput(direct), lambda: throughput(front)])
            per_s = quota.requests_per_minute / 60
            exact, flood = dict[str, int](), dict[str, int]()
            ways = [
                lambda: beside(other, per_s, lambda: latency_s(front, window_s), exact),
                lambda: beside(other, FLOOD * per_s, lambda: latency_s(front, window_s), flood),
            ]
            waits = by_turns(rounds, ways)
    return {
        "small_call_ms": calls,
        "requests_per_s": rates,
        "latency_s": waits,
        "added_ms": statistics.median(front - direct for direct, front in zip(*calls, strict=True)),
        "throughput_lost": statistics.median(1 - front / direct for direct, front in zip(*rates, strict=True)),
        "flood_costs": statistics.median(flood / exact - 1 for exact, flood in zip(*waits, strict=True)),
        "other_site": {"exact": exact, "flood": flood},
    }


PAGE = """\
---
question: What does Envoy cost in front of Triton, and does a site that floods harm another?
answer: {answer}
bundle: {bundle.name} {bundle.version}
commit: {commit}
status: current
---
# The front: {bundle.name}

Servers and clients share one machine with other programs, so all is asked by turns, {rounds} rounds. A difference is
the median of the rounds' own differences, with the smallest and the greatest. *Direct* is Triton that ends mutual TLS
itself. A small call asks for the model's configuration; of each round's {calls} the fastest tenth counts, since
the rest shows when other programs had the machine. {clients} clients ask for throughput. For the last row one
site asks one request after the other, while another sends exactly its quota, or {flood} times as much. That one ran at
the lowest priority, since it stands for another machine. At its quota {exact[answered]} of its requests were answered
and {exact[refused]} refused, in the flood {flooding[answered]} and {flooding[refused]}.

| | without | with | difference | limit |
|---|---|---|---|---|
| small call, direct and through Envoy, ms | {small[0]:.2f} | {small[1]:.2f} | {added} ms | 3 ms |
| requests/s, direct and through Envoy | {rate[0]:.2f} | {rate[1]:.2f} | {lost} less | 5 % |
| latency, quota and flood of another site, s | {wait[0]:.3f} | {wait[1]:.3f} | {flooded} more | 20 % |

Machine: {machine}.

Made by `{command}`.
"""


def page(bundle: Bundle, found: dict[str, Any], rounds: int, command: str) -> str:
    """The markdown page."""

    def spread(name: str, values: Sequence[float], form: str) -> str:
        return f"{found[name]:{form}} ({min(values):{form}} to {max(values):{form}})"

    calls, rates, waits = found["small_call_ms"], found["requests_per_s"], found["latency_s"]
    missed = ", ".join(name for name, limit in LIMITS.items() if found[name] > limit)
    answer = (
        f"It adds {found['added_ms']:.1f} ms to a small call and takes {found['throughput_lost']:.0%} of the "
        f"throughput. A flood costs another site {found['flood_costs']:.0%} of latency. "
        + (f"Missed: {missed}." if missed else "All three limits are met.")
    )
    return PAGE.format(
        answer=answer,
        bundle=bundle,
        commit=commit(),
        rounds=rounds,
        calls=CALLS,
        clients=CLIENTS,
        flood=FLOOD,
        exact=found["other_site"]["exact"],
        flooding=found["other_site"]["flood"],
        small=[statistics.median(values) for values in calls],
        rate=[statistics.median(values) for values in rates],
        wait=[statistics.median(values) for values in waits],
        added=spread("added_ms", [b - a for a, b in zip(*calls, strict=True)], ".2f"),
        lost=spread("throughput_lost", [1 - b / a for a, b in zip(*rates, strict=True)], ".1%"),
        flooded=spread("flood_costs", [b / a - 1 for a, b in zip(*waits, strict=True)], ".1%"),
        machine=hardware(),
        command=command,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="hippocampus", help="a shipped name or a folder (hippocampus)")
    parser.add_argument("--rounds", type=int, default=9, help="of each comparison (9)")
    parser.add_argument("--window", type=float, default=8, help="seconds of each flood, and of each quota (8)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="markdown file; JSON is put beside it")
    args = parser.parse_args(argv)
    bundle = load_bundle(args.bundle)
    found = measured(bundle, args.rounds, args.window)
    command = f"python bench/front.py --bundle {bundle.name} --rounds {args.rounds} --window {args.window:g}"
    command += f" -o {args.output.name}"
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    args.output.write_text(page(bundle, found, args.rounds, command), encoding="utf-8")
    print(args.output.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
