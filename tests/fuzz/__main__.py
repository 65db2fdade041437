"""Fuzz one part of the product, from a checkout: ``python -m tests.fuzz headers --count 100000``.

Ends with 0 if every input was read or refused in one line, within ten seconds and two gibibytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.fuzz.runner import TARGETS, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run one target and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--count", type=int, default=10_000, help="number of inputs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other inputs (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to repeat one that failed")
    arguments = parser.parse_args(argv)
    outcome = run(arguments.target, range(arguments.first, arguments.first + arguments.count), arguments.seed)
    for number, text in outcome.failures:
        print(f"--- input {number} of seed {arguments.seed}\n{text}")
    print(f"{arguments.target}, seed {arguments.seed}: {outcome}")
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
