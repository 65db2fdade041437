"""Scan after scan with one client, every failure told and none of them the end of the others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mixpriv.api import Client
from mixpriv.atomic import check_outputs, make_folder, write_outputs
from mixpriv.cli.client import PROGRAM
from mixpriv.cli.client.outputs import Job
from mixpriv.cli.process import end_if_stopped, explain
from mixpriv.cli.progress import Pace, Progress, shown
from mixpriv.cli.terminal import complain
from mixpriv.client.receipt import NOT_WRITTEN, WRITTEN, make_receipt
from mixpriv.client.results import encode_results
from mixpriv.client.segment import Prepared
from mixpriv.client.segmentation import Attempt, Segmentation
from mixpriv.client.sidecar import begin_dataset
from mixpriv.client.wire_record import save_wire
from mixpriv.errors import InputError, MixprivError, UnfitScanError
from mixpriv.timing import STAGES, Timings


@dataclass(frozen=True)
class Ready:
    """A scan that only waits for the server, and the time it took so far."""

    prepared: Prepared
    timings: Timings


class Queue:
    """Does job after job in order; while one is at the server, the next is prepared, and no more than that.

    What is sent and written does not depend on it: all that leaves a trace happens job after job.
    """

    def __init__(self, client: Client, *, force: bool, ahead: bool) -> None:
        self._client, self._force, self._ahead = client, force, ahead
        self.pace = Pace(0)

    def run(self, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
        """Do all jobs and tell how each went, as a JSON object."""
        upcoming: Future[Ready] | None = None
        self.pace = Pace(len(jobs))
        with ThreadPoolExecutor(1) as other:
            for job, following in zip(jobs, [*jobs[1:], None], strict=True):
                with shown(job.scan.name, self.pace) as progress:
                    ready = self._outcome(upcoming, job, progress)
                    # Not before our own is ready: the networks do one thing at a time.
                    upcoming = None
                    if self._ahead and following is not None and self._client.is_open:
                        upcoming = other.submit(self._prepare, following, Timings(lambda stage: end_if_stopped()))
                    result = ready if isinstance(ready, dict) else self._finish(job, ready, progress)
                self.pace.count(worked="error" not in result)
                yield result

    def _outcome(self, upcoming: Future[Ready] | None, job: Job, progress: Progress) -> Ready | dict[str, Any]:
        """What the preparation came to: ready for the server, or how it failed."""
        try:
            return self._prepare(job, Timings(progress)) if upcoming is None else upcoming.result()
        except Exception as error:
            return _failure(job, error)

    def _prepare(self, job: Job, timings: Timings) -> Ready:
        """Load and preprocess; opens the client if that was not done yet, for which it must be the main thread."""
        if job.refused:
            raise InputError(job.refused)
        if os.path.exists(job.scan):  # else it is not the outputs that are to blame
            check_outputs(job.outputs(), force=self._force, made=job.made)
            check_outputs(job.wire_outputs(), force=self._force, made=True)
        return Ready(self._client.prepare(job.scan, timings, job.series), timings)

    def _finish(self, job: Job, ready: Ready, progress: Progress) -> dict[str, Any]:
        ready.timings.on_start = progress
        try:
            done = _finish(job, ready, self._client, force=self._force)
        except Exception as error:
            return _failure(job, error)
        return {"scan": str(job.scan), "exit_code": 0, **done}


def _failure(job: Job, error: Exception) -> dict[str, Any]:
    code, message = explain(error)
    checks = {"checks": [asdict(check) for check in error.checks]} if isinstance(error, UnfitScanError) else {}
    return {"scan": str(job.scan), "exit_code": code, "error": message, **checks}


def _finish(job: Job, ready: Ready, client: Client, *, force: bool) -> dict[str, Any]:
    """Send, unmix and write; what there is to tell of it. Warnings are told at once, before anything is sent."""
    timings = ready.timings

    def warn(warning: str) -> None:
        complain(PROGRAM, f"warning: {job.scan}: {warning}")

    attempts: list[Attempt] = []
    saved = partial(_saved_if_it_fails, job, client, attempts, warn, force=force)
    with saved(_save_receipt):
        with saved(_save_wire):
            result = client.finish(ready.prepared, timings, warn, attempts.append)
        volumes = result.volumes
        with timings("report"):
            _save_wire(job, client, attempts, force=force)
            picture = _picture(job, result)
        with timings("save"):
            receipt = _receipt(job, client, attempts, WRITTEN)
            write_outputs({**_files(job, result, client), **picture, **receipt}, force=force)
    return {
        "output": str(job.files.labels),
        "table": str(job.files.table),
        "intracranial_ml": result.intracranial_ml,
        "brain_ml": None if result.brain_ml is None else round(result.brain_ml, 1),
        "classes": [asdict(volume) for volume in volumes],
        "warnings": list(result.warnings),
        "checks": [asdict(check) for check in result.checks],
        **({} if result.risk is None else {"risk": round(2 * result.risk) / 2}),
        "seconds": {**_rounded(timings.seconds), "total": round(sum(timings.seconds.values()), 4)},
    }


@contextlib.contextmanager
def _saved_if_it_fails(
    job: Job,
    client: Client,
    attempts: list[Attempt],
    warn: Callable[[str], None],
    save: Callable[..., None],
    *,
    force: bool,
) -> Iterator[None]:
    """Save what was sent and received also when anything fails after it."""
    try:
        yield
    except BaseException:
        try:
            save(job, client, attempts, force=force)
        except MixprivError as error:  # what failed first is the news
            warn(str(error))
        raise


def _save_wire(job: Job, client: Client, attempts: Sequence[Attempt], *, force: bool) -> None:
    exchanges = Attempt.exchanges(attempts)
    if job.wire is not None and exchanges:
        save_wire(job.wire, exchanges, client.bundle, client.open().server, force=force)


def _save_receipt(job: Job, client: Client, attempts: Sequence[Attempt], *, force: bool) -> None:
    """Of a segmentation that failed, if something was sent for it."""
    if any(attempt.deliveries for attempt in attempts):
        write_outputs(_receipt(job, client, attempts, NOT_WRITTEN), force=force)


def _receipt(job: Job, client: Client, attempts: Sequence[Attempt], segmentation: str) -> dict[Path, bytes]:
    """The receipt's file, if one is wanted."""
    if job.receipt is None:
        return {}
    make_folder(job.receipt.parent)
    return {job.receipt: make_receipt(attempts, client.open(), segmentation=segmentation)}


def _files(job: Job, result: Segmentation, client: Client) -> dict[Path, bytes]:
    """The files that every scan gets; begins the dataset of derivatives that they belong to."""
    files = job.files
    if files.dataset is not None:
        begin_dataset(files.dataset, client.bundle)
    if job.made:
        make_folder(files.labels.parent)
    return encode_results(result, files, job.scan, client.mode)


def _picture(job: Job, result: Segmentation) -> dict[Path, bytes]:
    """The picture's file, if one is wanted."""
    if job.picture is None:
        return {}
    from mixpriv.client.figure import draw_picture

    return {job.picture: draw_picture(result)}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(seconds[stage], 4) for stage in STAGES if stage in seconds}
