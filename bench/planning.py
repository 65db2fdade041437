"""How many scans a day: of N clients and M servers, from what was measured.

python bench/planning.py --cohort docs/results/data/cohort.json --server docs/results/data/throughput-brain-t1.json \
    -o docs/results/current/planning.md

A server of another kind, such as one with a GPU, is measured by bench/throughput.py there; its JSON is given here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DAY_S = 86_400
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
SERVERS = (1, 2, 4, 8)


def client_rate(cohort: dict[str, Any]) -> float:
    """Scans that a client can prepare and finish in a second, if its cores are its own."""
    return float(cohort["cores"] * cohort["scans"] / cohort["client_cpu_s"])


def server_rate(throughput: dict[str, Any], mode: str) -> float:
    """Most scans in a second that a server answered in a mode."""
    return max(float(load["scans_per_s"]) for load in throughput["loads"] if load["mode"] == mode)


def scans_a_day(clients: int, servers: int, client: float, server: float) -> int:
    """What the slower side allows.

    Examples
    --------
    >>> scans_a_day(4, 1, 0.5, 1.0), scans_a_day(1, 4, 0.5, 1.0)
    (86400, 43200)
    """
    return int(DAY_S * min(clients * client, servers * server))


def page(cohort: dict[str, Any], throughput: dict[str, Any], command: str) -> str:
    """The page as markdown."""
    client, server = client_rate(cohort), server_rate(throughput, cohort["mode"])
    one = f"{scans_a_day(1, 1, client, server):,}"
    each = cohort["client_cpu_s"] / cohort["scans"]
    rows = [[str(n), *(f"{scans_a_day(n, m, client, server):,}" for m in SERVERS)] for n in CLIENTS]
    header = ["clients", *(f"{m} server{'s' if m > 1 else ''}" for m in SERVERS)]
    lines = [
        "---",
        "question: How many scans a day do N clients and M servers segment?",
        f"answer: {one} with one client and one server; a server keeps {server / client:.1f} clients busy.",
        f"bundle: {throughput['bundle']}",
        f"commit: {cohort['commit']}",
        "status: current",
        "---",
        "",
        "# Planning a cohort",
        "",
        f"A client needs {each:.2f} processor seconds for a scan in mode {cohort['mode']} (mean of {cohort['scans']}).",
        f"With {cohort['cores']} cores of its own it does {client:.2f} scans in a second.",
        f"A server answered at most {server:.2f} requests in a second. Each machine has its cores for itself:",
        "",
        f"- client: {cohort['machine']}",
        f"- server: {throughput['machine']}, no GPU",
        "",
        table(header, rows),
        "",
        "The slower side decides. Not counted: a slow disk, a slow network, other work on the machines. No GPU was",
        "measured yet: run `bench/throughput.py` where one is, and make this page again.",
        "",
        f"Made by `{command}`, after `{cohort['command']}` and `{throughput['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, required=True, help="figures of bench/cohort.py")
    parser.add_argument("--server", type=Path, required=True, help="figures of bench/throughput.py")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    cohort, throughput = (json.loads(path.read_text(encoding="utf-8")) for path in (given.cohort, given.server))
    command = f"python bench/planning.py --cohort {given.cohort} --server {given.server} -o {given.output}"
    given.output.write_text(page(cohort, throughput, command), encoding="utf-8")


if __name__ == "__main__":
    main()
