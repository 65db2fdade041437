"""All scans of a command, one after another, and what is told of them meanwhile and at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mixpriv import __version__
from mixpriv.api import Client
from mixpriv.cli.client.jobs import Queue
from mixpriv.cli.client.outputs import Job
from mixpriv.cli.client.summary import tell_failures
from mixpriv.cli.progress import Pace
from mixpriv.cli.terminal import complain, say
from mixpriv.cohort.table import add_rows, row_of
from mixpriv.errors import InputError, MixprivError


class Run:
    """The scans of a command and how each went.

    Parameters
    ----------
    program : that the user began, for lines on the standard error stream
    quiet : no line for a scan that is done, since the standard output has something else
    verbose : also how long each stage of a scan took
    """

    def __init__(self, program: str, client: Client, *, quiet: bool = False, verbose: bool = False) -> None:
        self._program, self._client, self._quiet, self._verbose = program, client, quiet, verbose
        self._done: dict[Job, dict[str, Any]] = {}
        self._lost: list[MixprivError] = []

    def segment(self, jobs: Sequence[Job], queue: Queue) -> None:
        """Do all jobs; each is told when it is over."""
        results: dict[Job, dict[str, Any]] = {job: {} for job in jobs}  # in their order
        for job, result in queue.run(jobs):
            results[job] = result
            with self.noted():
                self._tell(result, queue.pace)
        self._done = results

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Go on without an output that cannot be written: the scans that follow are to be done nevertheless."""
        try:
            yield
        except MixprivError as error:
            self._lost.append(error)

    @property
    def document(self) -> dict[str, Any]:
        """What ``--json`` prints: how it was done and each scan's result; no weight, no key, no reference."""
        client, bundle = self._client, self._client.bundle
        return {
            "version": __version__,
            "bundle": {"name": bundle.name, "version": bundle.version, "fingerprint": bundle.fingerprint},
            "mode": client.mode.name,
            "requests": client.mode.count,
            "server": client.server,
            "device": client.device.name,
            "start_seconds": client.start_s,
            "scans": list(self._done.values()),
        }

    def add_to(self, table: Path) -> None:
        """Add a row for each scan to the table of all."""
        bundle = self._client.bundle
        how = {"mode": self._client.mode.name, "bundle": f"{bundle.name} {bundle.version}", "version": __version__}
        with self.noted():
            add_rows(table, [row_of(job.name, result, how) for job, result in self._done.items()])

    def end(self) -> int:
        """Tell what failed; returns the first failure's exit code, or 0.

        What is wrong with one scan (2) yields to what may be wrong with all, such as a server that is gone: who
        repeats a run must not take it for done.
        """
        results = list(self._done.values())
        skipped = sum("skipped" in result for result in results)
        if skipped and not self._quiet:
            with self.noted():
                say(f"{skipped} of {len(results)} scans were done before")
        tell_failures(self._program, results)
        for message in dict.fromkeys(str(error) for error in self._lost):
            complain(self._program, f"error: {message}")
        codes = [*(result["exit_code"] for result in results), *(error.exit_code for error in self._lost)]
        failures = [code for code in codes if code]
        return next((code for code in failures if code != InputError.exit_code), failures[0] if failures else 0)

    def _tell(self, result: dict[str, Any], pace: Pace) -> None:
        """One line for people; of several scans also how far we are."""
        if "error" in result:
            complain(self._program, f"error: {result['error']}")
        elif not self._quiet and "skipped" not in result:
            client, seconds = self._client, dict(result["seconds"])
            how = f"mode {client.mode.name}" + (f", {client.mode.count} requests" if client.mode.count > 1 else "")
            how += f", sent to {client.sent_to}" if client.sent_to else ", nothing left this machine"
            how += f" ({pace.so_far})" if pace.total > 1 else ""
            total, icv = seconds.pop("total"), result["intracranial_ml"]
            what = "crop" if icv is None else f"brain with an intracranial volume of {icv:.0f} ml"
            say(f"{result['output']}: {what} segmented in {total:.1f} s, {how}")
            if self._verbose:
                say("  " + ", ".join(f"{stage} {time:.2f} s" for stage, time in seconds.items()))
