"""What is told of all scans at the end: a table of those that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixpriv.cli.terminal import complain

_MOST_ROWS = 50


def tell_failures(program: str, results: Sequence[dict[str, Any]]) -> None:
    """Print a table of failures on the standard error stream, if there are any among several scans.

    Scans that failed for the same reason, as a server that is gone, have one row.
    """
    failed: dict[tuple[int, str], list[str]] = {}
    for result in results:
        if result["exit_code"]:
            reason = result["error"].removeprefix(f"{result['scan']}: ")
            failed.setdefault((result["exit_code"], reason), []).append(result["scan"])
    if not failed or len(results) == 1:
        return
    complain(program, f"{sum(map(len, failed.values()))} of {len(results)} scans failed:")
    rows = [(str(code), _scans(scans), reason) for (code, reason), scans in failed.items()]
    shown = [("code", "scan", "reason"), *rows[:_MOST_ROWS]]
    widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
    for code, scans, reason in shown:
        complain(program, f"  {code:<{widths[0]}}  {scans:<{widths[1]}}  {reason}")
    if len(rows) > _MOST_ROWS:
        complain(program, f"  ... and {len(rows) - _MOST_ROWS} more reasons")


def _scans(scans: Sequence[str]) -> str:
    return scans[0] + (f" and {len(scans) - 1} more" if len(scans) > 1 else "")
