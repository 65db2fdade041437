"""``mixpriv-client segment``: many scans, one server, every failure told and none of them the end of the others."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixpriv import __version__
from mixpriv.atomic import check_outputs, config_folder, data_folder, write_outputs
from mixpriv.bundle import Bundle, load_bundle
from mixpriv.cli.client.main import PROGRAM
from mixpriv.cli.client.outputs import Job, plan
from mixpriv.cli.options import connection as connection_options
from mixpriv.cli.process import clean_up_undisturbed, end_if_stopped, explain
from mixpriv.cli.progress import Progress, shown
from mixpriv.cli.terminal import complain, say, say_json
from mixpriv.client.ledger import EMBEDDED, Ledger
from mixpriv.client.report import ClassVolume, class_volumes, encode_table, recorded, save_wire
from mixpriv.client.segment import Client, Options, Prepared, Segmentation, open_client, prepare, segment_prepared
from mixpriv.errors import InputError, MixprivError
from mixpriv.imaging.device import choose_device
from mixpriv.imaging.volume import encode_labels, load_volume, zipped_as_named
from mixpriv.key import ClientKey, load_or_create_key
from mixpriv.threads import available_threads
from mixpriv.timing import STAGES, Stages
from mixpriv.wire.address import parse_servers
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.transport import DEFAULT_TIMEOUT_S


def run(arguments: argparse.Namespace) -> int:
    """Segment all scans of the command line; returns the first failure's exit code, or 0."""
    options = _options(arguments)
    bundle = load_bundle(arguments.bundle)
    jobs = plan(arguments)
    if arguments.report and arguments.report.suffix == ".json":
        check_outputs([arguments.report], force=arguments.force)
    results: list[dict[str, Any]] = []
    lost: list[MixprivError] = []
    with contextlib.ExitStack() as stack:
        connection = Connection(arguments, bundle, options, stack)
        pipeline = Pipeline(connection, options, force=arguments.force, ahead=not arguments.one_by_one)
        for result in pipeline.run(jobs):
            results.append(result)
            with _noted(lost):
                _tell(result, options, connection.sent_to, quiet=arguments.json)
        clean_up_undisturbed()
        document = _document(bundle, options, connection, results)
    if arguments.json:
        with _noted(lost):
            say_json(document)
    if arguments.report and arguments.report.suffix == ".json":
        with _noted(lost):
            content = json.dumps(document, indent=2).encode() + b"\n"
            write_outputs({arguments.report: content}, force=arguments.force)
    for message in dict.fromkeys(str(error) for error in lost):
        complain(PROGRAM, f"error: {message}")
    codes = [*(result["exit_code"] for result in results), *(error.exit_code for error in lost)]
    return next(filter(None, codes), 0)


def _options(arguments: argparse.Namespace) -> Options:
    """How scans are sent; judged before any work, with the number of threads.

    Raises
    ------
    InputError
        they do not go together, or no folder is known for key and ledger.
    """
    if arguments.threads:
        if not arguments.threads.isdecimal() or len(arguments.threads) > 9 or int(arguments.threads) < 1:
            raise InputError(f"--threads: expected a whole number from 1, got {arguments.threads!r}")
        os.environ["MIXPRIV_THREADS"] = arguments.threads  # heard by the kernels, the engines and an embedded server
    available_threads()
    options = Options(
        mode=arguments.mode,
        references=arguments.references,
        from_bank=arguments.references_from == "bank",
        weight=arguments.weight,
        allow_repeat=arguments.allow_repeat,
    )
    if not options.sends and (arguments.server or arguments.save_wire):
        raise InputError("mode local sends nothing: expected no --server and no --save-wire")
    if options.sends:
        config_folder(), data_folder()
    return options


@contextlib.contextmanager
def _noted(lost: list[MixprivError]) -> Iterator[None]:
    """Go on without an output that cannot be written: the scans that follow are to be done nevertheless."""
    try:
        yield
    except MixprivError as error:
        lost.append(error)


class Connection:
    """The way to the server and the client's networks: opened when the first good scan needs them, then kept."""

    def __init__(
        self, arguments: argparse.Namespace, bundle: Bundle, options: Options, stack: contextlib.ExitStack
    ) -> None:
        self.arguments, self.bundle, self.options = arguments, bundle, options
        self.server: str = arguments.server or os.environ.get("MIXPRIV_SERVER") or EMBEDDED
        self.device = choose_device(arguments.device, len(arguments.scans))
        self.seconds: float | None = None
        self._stack = stack
        self._client: Client | None = None
        self._failure: Exception | None = None

    @property
    def is_open(self) -> bool:
        """Whether `client` only gives what is there."""
        return self._client is not None

    @property
    def sent_to(self) -> str | None:
        """Where requests went to; None where nothing left this machine."""
        return self._client.server if self._client and self._client.leaves_machine else None

    def client(self) -> Client:
        """Everything that `segment` needs; a first failure stays, so that it does not cost every scan its time."""
        if self._failure:
            raise self._failure
        if self._client is None:
            begin = time.perf_counter()
            try:
                self._client = connect(self, self._stack)
            except Exception as error:
                self._failure = error
                raise
            self.seconds = round(time.perf_counter() - begin, 4)
        return self._client


def connect(connection: Connection, stack: contextlib.ExitStack) -> Client:
    """Reach the server, or start one of our own, and load the client's networks; the stack closes it all."""
    given, bundle, options = connection.arguments, connection.bundle, connection.options
    if not options.sends:
        unused = ClientKey(secrets.token_bytes(32))
        return open_client(bundle, unused, None, generator=False, device=connection.device)
    key = load_or_create_key()
    Ledger().check()
    how = connection_options(given, timeout_s=DEFAULT_TIMEOUT_S)
    segmenter: ServerPool
    if connection.server == EMBEDDED:
        from mixpriv.server.embedded import EmbeddedSegmenter, embedded_server

        segmenter = EmbeddedSegmenter(stack.enter_context(embedded_server(bundle)), **how)
    else:
        segmenter = ServerPool(parse_servers(connection.server), SegmenterContract.of(bundle), **how)
    stack.enter_context(segmenter).check()
    generator = options.mixes and not options.from_bank
    return open_client(bundle, key, segmenter, generator=generator, device=connection.device)


@dataclass(frozen=True)
class Ready:
    """A scan that only waits for the server, and the time it took so far."""

    prepared: Prepared
    stages: Stages


class Pipeline:
    """Does job after job in order; while one is at the server, the next is prepared, and no more than that.

    What is sent and written does not depend on it: all that leaves a trace happens job after job.
    """

    def __init__(self, connection: Connection, options: Options, *, force: bool, ahead: bool) -> None:
        self._connection, self._options = connection, options
        self._force, self._ahead = force, ahead

    def run(self, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
        """Do all jobs and tell how each went, as a JSON object."""
        upcoming: Future[Ready] | None = None
        with ThreadPoolExecutor(1) as other:
            for job, following in zip(jobs, [*jobs[1:], None], strict=True):
                with shown(job.scan.name) as progress:
                    ready = self._outcome(upcoming, job, progress)
                    # Not before our own is ready: the networks do one thing at a time.
                    upcoming = None
                    if self._ahead and following is not None and self._connection.is_open:
                        upcoming = other.submit(self._prepare, following, Stages(lambda stage: end_if_stopped()))
                    result = ready if isinstance(ready, dict) else self._finish(job, ready, progress)
                yield result

    def _outcome(self, upcoming: Future[Ready] | None, job: Job, progress: Progress) -> Ready | dict[str, Any]:
        """What the preparation came to: ready for the server, or how it failed."""
        try:
            return self._prepare(job, Stages(progress)) if upcoming is None else upcoming.result()
        except Exception as error:
            return _failure(job, error)

    def _prepare(self, job: Job, stages: Stages) -> Ready:
        """Load and conform; opens the connection if that was not done yet, for which it must be the main thread."""
        if os.path.isfile(job.scan):  # else it is not the outputs that are to blame
            check_outputs(job.outputs(), force=self._force)
            check_outputs(job.wire_outputs(self._options.references), force=self._force, made=True)
        with stages("load"):
            scan = load_volume(job.scan, self._connection.bundle.modalities)
        stages.on_start("start")
        return Ready(prepare(scan, self._connection.client(), self._options, stages), stages)

    def _finish(self, job: Job, ready: Ready, progress: Progress) -> dict[str, Any]:
        ready.stages.on_start = progress
        try:
            done = _finish(job, ready, self._connection.client(), self._options, force=self._force)
        except Exception as error:
            return _failure(job, error)
        return {"scan": str(job.scan), "exit_code": 0, **done}


def _failure(job: Job, error: Exception) -> dict[str, Any]:
    code, message = explain(error)
    return {"scan": str(job.scan), "exit_code": code, "error": message}


def _finish(job: Job, ready: Ready, client: Client, options: Options, *, force: bool) -> dict[str, Any]:
    """Send, unmix and write; what there is to tell of it. Warnings are told at once, before anything is sent."""
    scan, stages = ready.prepared.scan, ready.stages

    def warn(warning: str) -> None:
        complain(PROGRAM, f"warning: {job.scan}: {warning}")

    with recorded(client, job.wire, force=force, warn=warn) as recording:
        result = segment_prepared(ready.prepared, recording, options, stages, warn)
    volumes = class_volumes(result.labels, scan.voxel_ml, client.bundle.classes)
    with stages("report"):
        if job.wire is not None:
            save_wire(job.wire, result.views, client.bundle, client.server, force=force)
        picture = _picture(job, result, volumes)
    with stages("save"):
        labels = zipped_as_named(job.labels, encode_labels(result.labels, scan))
        write_outputs({job.labels: labels, job.table: encode_table(volumes), **picture}, force=force)
    return {
        "output": str(job.labels),
        "table": str(job.table),
        "brain_ml": None if result.brain_ml is None else round(result.brain_ml, 1),
        "classes": [asdict(volume) for volume in volumes],
        "warnings": list(result.warnings),
        **({} if result.risk is None else {"risk": round(2 * result.risk) / 2}),
        "seconds": {**_rounded(stages.seconds), "total": round(sum(stages.seconds.values()), 4)},
    }


def _picture(job: Job, result: Segmentation, volumes: Sequence[ClassVolume]) -> dict[Path, bytes]:
    """The picture's file, if one is wanted."""
    if job.picture is None:
        return {}
    from mixpriv.client.figure import draw_picture

    return {job.picture: draw_picture(result, volumes)}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(seconds[stage], 4) for stage in STAGES if stage in seconds}


def _document(
    bundle: Bundle, options: Options, connection: Connection, results: list[dict[str, Any]]
) -> dict[str, Any]:
    """What ``--json`` prints: how it was done and each scan's result; no weight, no key, no reference."""
    return {
        "version": __version__,
        "bundle": {"name": bundle.name, "version": bundle.version, "fingerprint": bundle.fingerprint},
        "mode": options.mode,
        "references": options.references if options.mixes else 0,
        "server": connection.server if options.sends else None,
        "device": connection.device.name,
        "start_seconds": connection.seconds,
        "scans": results,
    }


def _tell(result: dict[str, Any], options: Options, sent_to: str | None, *, quiet: bool) -> None:
    """One line for people."""
    if "error" in result:
        complain(PROGRAM, f"error: {result['error']}")
    elif not quiet:
        how = f"mode {options.mode}" + (f", references {options.references}" if options.mixes else "")
        how += ", nothing left this machine" if sent_to is None else f", sent to {sent_to}"
        total = result["seconds"]["total"]
        what = "crop" if result["brain_ml"] is None else f"brain of {result['brain_ml']:.0f} ml"
        say(f"{result['output']}: {what} segmented in {total:.1f} s, {how}")
