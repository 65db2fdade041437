"""Scan after scan with one client, every failure told and none of them the end of the others."""

from __future__ import annotations

import contextlib
import os
import time
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
from mixpriv.cohort.claim import Claim, claim
from mixpriv.cohort.record import done_before, require_replaceable, with_record
from mixpriv.errors import InputError, MixprivError, UnfitScanError
from mixpriv.imaging.volume import encode_as_named
from mixpriv.timing import STAGES, Timings

_LOOK_AGAIN_S = 1.0
"""After this time it is seen whether another client is done with a scan."""


@dataclass(frozen=True)
class Ready:
    """A scan that only waits for the server, the time it took so far, and whether its earlier results are replaced."""

    prepared: Prepared
    timings: Timings
    force: bool


class _ElsewhereError(Exception):
    """Another client works on this scan."""


class Queue:
    """Does job after job in order; while one is at the server, the next is prepared, and no more than that.

    What is sent and written does not depend on it: all that leaves a trace happens job after job.

    Parameters
    ----------
    force : overwrite outputs that exist
    ahead : prepare the next scan while one is at the server
    resume : skip what is done and whole, do again what mixpriv has made otherwise, and leave to other clients what
        they work on, which is looked at once more at the end
    settings : a digest of them, noted with each result
    program : that the user began, for warnings
    """

    def __init__(
        self, client: Client, *, force: bool, ahead: bool, resume: bool = False, settings: str, program: str = PROGRAM
    ) -> None:
        self._client, self._force, self._ahead, self._resume = client, force, ahead, resume
        self._settings, self._program = settings, program
        self._claims: dict[Job, Claim] = {}
        self.pace = Pace(0)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Do all jobs and tell how each went, as a JSON object."""
        self.pace = Pace(len(jobs))
        elsewhere: list[Job] = []
        try:
            with ThreadPoolExecutor(1) as other:
                yield from self._pass(jobs, other, elsewhere)
                while elsewhere:  # until whoever worked on them is done, or has ended and left them to us
                    time.sleep(_LOOK_AGAIN_S)
                    end_if_stopped()
                    again, elsewhere = elsewhere, []
                    yield from self._pass(again, other, elsewhere)
        finally:
            for job in list(self._claims):
                self._release(job)

    def _pass(
        self, jobs: Sequence[Job], other: ThreadPoolExecutor, elsewhere: list[Job]
    ) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Do jobs in order, but those that other clients work on: they are added to ``elsewhere``."""
        upcoming: Future[Ready | dict[str, Any]] | None = None
        for job, following in zip(jobs, [*jobs[1:], None], strict=True):
            with shown(job.name, self.pace) as progress:
                ready = self._outcome(upcoming, job, progress)
                # Not before our own is ready: the networks do one thing at a time.
                upcoming = None
                if self._ahead and following is not None and self._client.is_open:
                    upcoming = other.submit(self._prepare, following, Timings(lambda stage: end_if_stopped()))
                result = self._finish(job, ready, progress) if isinstance(ready, Ready) else ready
            self._release(job)
            del ready  # before the next one is there: a scan takes much memory
            if result is None:
                elsewhere.append(job)
            else:
                self.pace.count(worked="seconds" in result)
                yield job, result

    def _outcome(
        self, upcoming: Future[Ready | dict[str, Any]] | None, job: Job, progress: Progress
    ) -> Ready | dict[str, Any] | None:
        """What the preparation came to: ready for the server, done before, failed, or None if it is another's."""
        try:
            return self._prepare(job, Timings(progress)) if upcoming is None else upcoming.result()
        except _ElsewhereError:
            return None
        except Exception as error:
            return _failure(job, error)

    def _prepare(self, job: Job, timings: Timings) -> Ready | dict[str, Any]:
        """Load and preprocess; opens the client if that was not done yet, for which it must be the main thread."""
        if job.refused:
            raise InputError(job.refused)
        force = self._force
        if os.path.exists(job.scan):  # else it is not the outputs that are to blame
            if self._resume:
                told = self._claimed(job)
                if told is not None:
                    return told
                force = force or require_replaceable(job.files, self._client.bundle)
            check_outputs(job.outputs(), force=force, made=job.made)
            check_outputs(job.wire_outputs(), force=force, made=True)
        return Ready(self._client.prepare(job.scan, timings, job.series), timings, force)

    def _claimed(self, job: Job) -> dict[str, Any] | None:
        """Take a scan, so that no other client does; the result if it is done."""
        told = self._done_before(job)
        if told is not None:
            return told
        if job.made:
            make_folder(job.files.labels.parent)
        if job.locks is not None:
            make_folder(job.locks)
        mine = claim(job.lock)
        if mine is None:
            raise _ElsewhereError
        self._claims[job] = mine
        return self._done_before(job)  # by another client, meanwhile

    def _done_before(self, job: Job) -> dict[str, Any] | None:
        there = not self._force and all(path.exists() for path in job.outputs())
        told = done_before(job.scan, job.files, self._settings) if there else None
        return (
            None if told is None else {"scan": str(job.scan), "exit_code": 0, "skipped": True, **_places(job), **told}
        )

    def _release(self, job: Job) -> None:
        mine = self._claims.pop(job, None)
        if mine is not None:
            mine.release()

    def _finish(self, job: Job, ready: Ready, progress: Progress) -> dict[str, Any]:
        ready.timings.on_start = progress

        def warn(warning: str) -> None:
            complain(self._program, f"warning: {job.scan}: {warning}")

        try:
            done = _finish(job, ready, self._client, warn, self._settings)
        except Exception as error:
            return _failure(job, error)
        return {"scan": str(job.scan), "exit_code": 0, **_places(job), **done}


def _failure(job: Job, error: Exception) -> dict[str, Any]:
    code, message = explain(error)
    checks = {"checks": [asdict(check) for check in error.checks]} if isinstance(error, UnfitScanError) else {}
    return {"scan": str(job.scan), "exit_code": code, "error": message, **checks}


def _places(job: Job) -> dict[str, str]:
    sure = {} if job.confidence is None else {"confidence": str(job.confidence)}
    return {"output": str(job.files.labels), "table": str(job.files.table), **sure}


def _finish(job: Job, ready: Ready, client: Client, warn: Callable[[str], None], settings: str) -> dict[str, Any]:
    """Send, unmix and write; what there is to tell of it. Warnings are told at once, before anything is sent."""
    timings, force = ready.timings, ready.force
    attempts: list[Attempt] = []
    saved = partial(_saved_if_it_fails, job, client, attempts, warn, force=force)
    with saved(_save_receipt):
        with saved(_save_wire):
            result = client.finish(ready.prepared, timings, warn, attempts.append, job.age)
        told = _told(result)
        with timings("report"):
            _save_wire(job, client, attempts, force=force)
            pictures = _pictures(job, result, client)
        with timings("save"):
            receipt = _receipt(job, client, attempts, WRITTEN)
            write_outputs({**pictures, **receipt, **_files(job, result, told, client, settings)}, force=force)
    seconds = {**_rounded(timings.seconds), "total": round(sum(timings.seconds.values()), 4)}
    return {**told, "seconds": seconds}


def _told(result: Segmentation) -> dict[str, Any]:
    """What there is to tell of a result."""
    return {
        "intracranial_ml": result.intracranial_ml,
        "brain_ml": None if result.brain_ml is None else round(result.brain_ml, 1),
        "classes": [asdict(volume) for volume in result.volumes],
        "warnings": list(result.warnings),
        "checks": [asdict(check) for check in result.checks],
        "score": None if result.score is None else round(result.score, 3),
        **({} if result.risk is None else {"risk": round(2 * result.risk) / 2}),
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


def _files(job: Job, result: Segmentation, told: dict[str, Any], client: Client, settings: str) -> dict[Path, bytes]:
    """The files that every scan gets; begins the dataset of derivatives that they belong to."""
    files = job.files
    if files.dataset is not None:
        begin_dataset(files.dataset, client.bundle, job.scan)
    if job.made:
        make_folder(files.labels.parent)
    contents = encode_results(result, files, job.scan, client.mode)
    return with_record(contents, files.sidecar, job.scan, settings, told)


def _pictures(job: Job, result: Segmentation, client: Client) -> dict[Path, bytes]:
    """The files of the picture or page and of the map of confidence, if they are wanted."""
    files = {}
    if job.confidence is not None:
        files[job.confidence] = encode_as_named(job.confidence, result.confidence, result.scan)
    if job.picture is not None and job.picture.suffix == ".html":
        from mixpriv.client.report import encode_report

        shown = encode_report(result, client.mode.name, client.sent_to, identifiers=job.identifiers)
        files[job.picture] = shown
    elif job.picture is not None:
        from mixpriv.client.figure import draw_picture

        files[job.picture] = draw_picture(result, client.mode.name, identifiers=job.identifiers)
    return files


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(seconds[stage], 4) for stage in STAGES if stage in seconds}
