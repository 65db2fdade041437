"""Which files are made of which scan."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mixpriv.client.naming import Outputs, outputs_of
from mixpriv.client.wire_record import wire_files
from mixpriv.errors import InputError
from mixpriv.imaging.volume import stem


@dataclass(frozen=True)
class Job:
    """One scan and the files that are made of it."""

    scan: Path
    files: Outputs
    wire: Path | None
    picture: Path | None
    requests: int

    def outputs(self) -> list[Path]:
        """The files that tell the result."""
        return [*self.files.all(), *([self.picture] if self.picture else [])]

    def wire_outputs(self) -> list[Path]:
        """The files that tell what was sent and received."""
        if self.wire is None:
            return []
        return [self.wire / "request.json", *chain.from_iterable(wire_files(self.wire, self.requests))]


def plan(arguments: argparse.Namespace, requests: int) -> list[Job]:
    """Say which files are made of which scan, and of how many requests.

    Raises
    ------
    InputError
        ``-o`` or ``--report`` do not fit the number of scans, two files would be written to one place, or one over a
        scan; or the working folder is gone that they are in.
    """
    scans, many = arguments.scans, len(arguments.scans) > 1
    if arguments.report and arguments.report.suffix not in (".json", ".png"):
        raise InputError(f"{arguments.report}: expected a report named .json or .png")
    picture = arguments.report if arguments.report and arguments.report.suffix == ".png" else None
    if picture and many:
        raise InputError(f"{picture}: a picture shows one scan, got {len(scans)} scans")
    jobs = []
    for scan in scans:
        if many and arguments.output is not None and not os.path.isdir(arguments.output):
            raise InputError(f"{arguments.output}: expected an existing folder as the output of several scans")
        wire = arguments.save_wire and (arguments.save_wire / stem(scan) if many else arguments.save_wire)
        jobs.append(Job(scan, outputs_of(scan, arguments.output), wire, picture, requests))
    report = [arguments.report] if arguments.report and not picture else []
    written = [path for job in jobs for path in (*job.outputs(), *job.wire_outputs())]
    read, taken = {_place(scan) for scan in scans}, set[str]()
    for path in (*written, *report):
        place = _place(path)
        if place in read:
            raise InputError(f"{path}: expected an output that is not the scan itself")
        if place in taken:
            raise InputError(f"{path}: two outputs would be written there; expected scans of different names")
        taken.add(place)
    return jobs


def _place(path: Path) -> str:
    """Where a file really is, by whatever name."""
    try:
        return os.path.realpath(path)
    except OSError as error:
        raise InputError(f"{path}: the working folder is gone ({error.strerror}); expected a full path") from None
