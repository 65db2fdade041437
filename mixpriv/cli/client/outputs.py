"""Which files are made of which scan."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from mixpriv.client.naming import Outputs, derivatives_of, outputs_in, outputs_of
from mixpriv.client.wire_record import DOCUMENT, wire_files
from mixpriv.cohort.find import Found
from mixpriv.errors import InputError
from mixpriv.imaging.volume import stem, suffix_of

TABLE_NAME = "volumes.tsv"
"""Of the table of all scans, in the folder for outputs."""


@dataclass(frozen=True)
class Job:
    """One scan and the files that are made of it; ``refused`` says why it cannot be done, if that is known before.

    Its ``name`` is unique among the scans of a run. With ``made`` the folder of the outputs is made when they are
    written.
    """

    scan: Path
    files: Outputs
    wire: Path | None
    picture: Path | None
    requests: int
    name: str = ""
    made: bool = False
    refused: str = ""
    receipt: Path | None = None
    series: str | None = None
    identifiers: bool = False
    locks: Path | None = None
    confidence: Path | None = None
    age: float | None = None

    @property
    def lock(self) -> Path:
        """A file that the client which works on it has locked; in the folder of ``locks``, if there is one for all."""
        if self.locks is not None:
            return self.locks / f"mixpriv-{hashlib.sha256(_place(self.files.labels).encode()).hexdigest()[:16]}.lock"
        return self.files.labels.with_name(f".{self.files.labels.name}.lock")

    def outputs(self) -> list[Path]:
        """The files that tell the result."""
        return [*self.files.all(), *(path for path in (self.picture, self.confidence) if path)]

    def wire_outputs(self) -> list[Path]:
        """The files that tell what was sent and received."""
        receipt = [self.receipt] if self.receipt else []
        if self.wire is None:
            return receipt
        return [*receipt, self.wire / DOCUMENT, *chain.from_iterable(wire_files(self.wire, self.requests))]


def plan(arguments: argparse.Namespace, scans: Sequence[Found], requests: int) -> list[Job]:
    """Say which files are made of which scan, and of how many requests.

    Of two scans in a folder that would have one output the second is refused, and the others are done.

    Raises
    ------
    InputError
        ``-o``, ``--report`` or ``--receipt`` do not fit the number of scans, two files would be written to one place,
        or one over a scan; or the working folder is gone that they are in.
    """
    many, picture = len(scans) > 1, None
    if arguments.report and arguments.report.suffix not in (".json", ".png", ".html"):
        raise InputError(f"{arguments.report}: expected a report named .json, .png or .html")
    if arguments.report and arguments.report.suffix != ".json":
        picture = arguments.report
    if picture and many:
        raise InputError(f"{picture}: a picture shows one scan, got {len(scans)} scans")
    jobs = []
    for found in scans:
        files = _files(found, arguments.output, many=many)
        wire = arguments.save_wire
        if wire and (many or not found.named):
            wire = wire / found.below / stem(found.scan)
        made = files.dataset is not None or (arguments.output is not None and (many or not found.named))
        name, receipt = str(found.below / found.scan.name), _receipt_path(found, arguments.receipt, many=many)
        sure = files.confidence if arguments.confidence else None
        job = Job(found.scan, files, wire, picture, requests, name, made, receipt=receipt, series=arguments.series)
        jobs.append(replace(job, confidence=sure, age=arguments.age, identifiers=arguments.with_identifiers))
    shared = [path for path in (common_table(arguments, scans), arguments.report) if path and path != picture]
    return _without_clashes(jobs, scans, shared)


def plan_derivatives(arguments: argparse.Namespace, scans: Sequence[Found], requests: int) -> list[Job]:
    """Say which files of a dataset of derivatives are made of which scan of a BIDS dataset."""
    out, locks = arguments.output, arguments.work_dir
    if os.path.lexists(out) and not os.path.isdir(out):
        raise InputError(f"{out}: expected a folder for results, got a file")
    jobs = []
    for found in scans:
        files = derivatives_of(found.scan, arguments.bids_dir, out)
        name = str(found.below / found.scan.name)
        sure = files.confidence if arguments.confidence else None
        job = Job(found.scan, files, None, None, requests, name, made=True, locks=locks)
        jobs.append(replace(job, confidence=sure, age=arguments.age))
    return _without_clashes(jobs, scans, [])


def common_table(arguments: argparse.Namespace, scans: Sequence[Found]) -> Path | None:
    """The table of all scans, where several have one folder for their outputs."""
    output: Path | None = arguments.output
    if output is None or (len(scans) == 1 and scans[0].named):
        return None
    return output / TABLE_NAME


def _without_clashes(jobs: Sequence[Job], scans: Sequence[Found], shared: Sequence[Path]) -> list[Job]:
    """Refuse what would be written to one place with something else, or over a scan."""
    read, taken = {_place(found.scan) for found in scans}, {_place(path) for path in shared}
    kept = []
    for job, found in zip(jobs, scans, strict=True):
        problem, places = "", set[str]()
        for path in (*job.outputs(), *job.wire_outputs()):
            place = _place(path)
            if place in read:
                raise InputError(f"{path}: expected an output that is not the scan itself")
            if not problem and (place in taken or place in places):
                problem = f"{path}: two outputs would be written there; expected scans of different names"
            places.add(place)
        if problem and found.named:
            raise InputError(problem)
        if not problem:
            taken |= places
        kept.append(replace(job, refused=f"{job.scan}: {problem}") if problem else job)
    for path in shared:
        if _place(path) in read:
            raise InputError(f"{path}: expected an output that is not the scan itself")
    return kept


def _place(path: Path) -> str:
    """Where a file really is, by whatever name."""
    try:
        return os.path.realpath(path)
    except OSError as error:
        raise InputError(f"{path}: the working folder is gone ({error.strerror}); expected a full path") from None


def _files(found: Found, output: Path | None, *, many: bool) -> Outputs:
    if output is None or not (many or not found.named):
        return outputs_of(found.scan, output)
    if not os.path.isdir(output) and (suffix_of(output) or os.path.lexists(output)):
        raise InputError(f"{output}: expected a folder as the output of several scans")
    return outputs_in(output / found.below, found.scan)


def _receipt_path(found: Found, receipt: Path | None, *, many: bool) -> Path | None:
    if receipt is None:
        return None
    own = f"{stem(found.scan)}_receipt.json"
    if not many and found.named:
        return receipt / own if os.path.isdir(receipt) else receipt
    if not os.path.isdir(receipt) and (receipt.suffix or os.path.lexists(receipt)):
        raise InputError(f"{receipt}: expected a folder for the receipts of several scans")
    return receipt / found.below / own
