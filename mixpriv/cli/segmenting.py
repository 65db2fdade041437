"""``mixpriv-client segment``: many scans, one server, every failure told and none of them the end of the others."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from mixpriv import __version__
from mixpriv.bundle import Bundle, load_bundle
from mixpriv.cli.client import complain, explain
from mixpriv.client.files import check_outputs, make_folder, write_file
from mixpriv.client.key import load_or_create_key
from mixpriv.client.ledger import EMBEDDED
from mixpriv.client.report import ClassVolume, class_volumes, encode_table, save_wire, wire_files
from mixpriv.client.segment import Client, Options, Segmentation, open_client, segment
from mixpriv.client.stages import STAGES, Stages
from mixpriv.client.volume import SUFFIXES, encode_labels, load_volume, stem, write_nifti
from mixpriv.errors import InputError
from mixpriv.threads import available_threads
from mixpriv.wire.address import TlsOptions
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import DEFAULT_TIMEOUT_S, GrpcSegmenter

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One scan and the files that are made of it."""

    scan: Path
    labels: Path
    table: Path
    wire: Path | None
    picture: Path | None

    def outputs(self) -> list[Path]:
        """The files that tell the result."""
        return [self.labels, self.table, *([self.picture] if self.picture else [])]

    def wire_outputs(self, references: int) -> list[Path]:
        """The files that tell what was sent and received."""
        if self.wire is None:
            return []
        return [self.wire / "request.json", *chain.from_iterable(wire_files(self.wire, references))]


def run(arguments: argparse.Namespace) -> int:
    """Segment all scans of the command line; returns the first failure's exit code, or 0."""
    if arguments.threads:
        os.environ["MIXPRIV_THREADS"] = arguments.threads  # heard by the kernels, the engines and an embedded server
    available_threads()
    options = Options(
        mode=arguments.mode,
        references=arguments.references,
        from_bank=arguments.references_from == "bank",
        weight=arguments.weight,
        allow_repeat=arguments.allow_repeat,
    )
    bundle = load_bundle(arguments.bundle)
    jobs = plan(arguments)
    if arguments.report and arguments.report.suffix == ".json":
        check_outputs([arguments.report], force=arguments.force)
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        connection = Connection(arguments, bundle, options, stack)
        for job in jobs:
            with _shown(job.scan.name) as progress:
                result = _attempt(job, connection, options, force=arguments.force, progress=progress)
            results.append(result)
            _tell(result, options, quiet=arguments.json)
        document = _document(bundle, options, connection, results)
    text = json.dumps(document, indent=2)
    if arguments.json:
        print(text)
    if arguments.report and arguments.report.suffix == ".json":
        write_file(arguments.report, text.encode() + b"\n")
    return next((result["exit_code"] for result in results if result["exit_code"]), 0)


def plan(arguments: argparse.Namespace) -> list[Job]:
    """Say which files are made of which scan.

    Raises
    ------
    InputError
        ``-o`` or ``--report`` do not fit the number of scans, or two scans would have the same output.
    """
    scans, many = arguments.scans, len(arguments.scans) > 1
    if arguments.report and arguments.report.suffix not in (".json", ".png"):
        raise InputError(f"{arguments.report}: expected a report named .json or .png")
    picture = arguments.report if arguments.report and arguments.report.suffix == ".png" else None
    if picture and many:
        raise InputError(f"{picture}: a picture shows one scan, got {len(scans)} scans")
    jobs = []
    for scan in scans:
        labels = _labels_path(scan, arguments.output, many=many)
        wire = arguments.save_wire and (arguments.save_wire / stem(scan) if many else arguments.save_wire)
        jobs.append(Job(scan, labels, labels.with_name(f"{stem(labels)}.tsv"), wire, picture))
    taken = [job.labels.resolve() for job in jobs]
    if len(set(taken)) < len(taken):
        raise InputError("scans: expected different names, since two would be written to the same output")
    if not {scan.resolve() for scan in scans}.isdisjoint(taken):
        raise InputError(f"{arguments.output}: expected an output that is not the scan itself")
    return jobs


def _labels_path(scan: Path, output: Path | None, *, many: bool) -> Path:
    default = f"{stem(scan)}_dseg.nii.gz"
    if output is None:
        return scan.with_name(default)
    if output.is_dir():
        return output / default
    if many:
        raise InputError(f"{output}: expected an existing folder as the output of several scans")
    if not output.name.lower().endswith(SUFFIXES):
        raise InputError(f"{output}: expected an output named .nii or .nii.gz, or an existing folder")
    return output


class Connection:
    """The way to the server and the client's networks: opened when the first good scan needs them, then kept."""

    def __init__(
        self, arguments: argparse.Namespace, bundle: Bundle, options: Options, stack: contextlib.ExitStack
    ) -> None:
        self.arguments, self.bundle, self.options = arguments, bundle, options
        self.server: str = arguments.server or EMBEDDED
        self.seconds: float | None = None
        self._stack = stack
        self._client: Client | None = None
        self._failure: Exception | None = None

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
    key = load_or_create_key()
    address = given.server
    if address is None:
        from mixpriv.server.embedded import embedded_server

        address = stack.enter_context(embedded_server(bundle))
    tls = TlsOptions(given.tls_ca, given.tls_cert, given.tls_key)
    segmenter = GrpcSegmenter(
        address,
        SegmenterContract.of(bundle),
        timeout_s=given.timeout or DEFAULT_TIMEOUT_S,
        tls=None if tls == TlsOptions() else tls,
        insecure=given.insecure,
    )
    stack.enter_context(segmenter)
    segmenter.check()
    generator = options.mode != "none" and not options.from_bank
    return open_client(bundle, key, segmenter, server=connection.server, generator=generator)


def _attempt(job: Job, connection: Connection, options: Options, *, force: bool, progress: Progress) -> dict[str, Any]:
    """Do one job and tell how it went, as a JSON object."""
    try:
        check_outputs(job.outputs(), force=force)
        check_outputs(job.wire_outputs(options.references), force=force, made=True)
        return {"scan": str(job.scan), "exit_code": 0, **_do(job, connection, options, progress)}
    except Exception as error:
        code, message = explain(error)
        return {"scan": str(job.scan), "exit_code": code, "error": message}


def _do(job: Job, connection: Connection, options: Options, progress: Progress) -> dict[str, Any]:
    stages = Stages(progress)
    with stages("load"):
        scan = load_volume(job.scan)
    progress("start")
    client = connection.client()
    result = segment(scan, client, options, stages)
    volumes = class_volumes(result.labels, scan.voxel_ml, client.bundle.classes)
    with stages("report"):
        _save_extras(job, result, volumes, client)
    with stages("save"):
        write_file(job.table, encode_table(volumes))
        write_nifti(job.labels, encode_labels(result.labels, scan))
    return {
        "output": str(job.labels),
        "table": str(job.table),
        "brain_ml": None if result.brain_ml is None else round(result.brain_ml, 1),
        "classes": [asdict(volume) for volume in volumes],
        "warnings": list(result.warnings),
        "seconds": {**_rounded(stages.seconds), "total": round(sum(stages.seconds.values()), 4)},
    }


def _save_extras(job: Job, result: Segmentation, volumes: Sequence[ClassVolume], client: Client) -> None:
    if job.wire is not None:
        save_wire(make_folder(job.wire), result.views, client.bundle, client.server)
    if job.picture is not None:
        from mixpriv.client.picture import draw_picture

        write_file(job.picture, draw_picture(result, volumes))


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
        "references": 0 if options.mode == "none" else options.references,
        "server": connection.server,
        "start_seconds": connection.seconds,
        "scans": results,
    }


def _tell(result: dict[str, Any], options: Options, *, quiet: bool) -> None:
    """One line for people, and the warnings."""
    for warning in result.get("warnings", ()):
        complain(f"warning: {result['scan']}: {warning}")
    if "error" in result:
        complain(f"error: {result['error']}")
    elif not quiet:
        how = "mode none" if options.mode == "none" else f"mode {options.mode}, references {options.references}"
        total = result["seconds"]["total"]
        what = "crop" if result["brain_ml"] is None else f"brain of {result['brain_ml']:.0f} ml"
        print(f"{result['output']}: {what} segmented in {total:.1f} s, {how}")


@contextlib.contextmanager
def _shown(name: str) -> Iterator[Progress]:
    """Progress on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(name)) as status:
        yield lambda stage: status.update(Text(f"{name}: {_DOING.get(stage, stage)}"))


_DOING = {
    "load": "reading",
    "start": "getting the networks and the server ready",
    "digest": "reading",
    "extract": "finding the brain",
    "conform": "bringing it to the networks' grid",
    "ledger": "looking into the ledger",
    "reference": "drawing a reference",
    "mix": "mixing",
    "server": "waiting for the server",
    "unmix": "unmixing",
    "restore": "back to the scan's grid",
    "report": "writing the report",
    "save": "writing",
}
