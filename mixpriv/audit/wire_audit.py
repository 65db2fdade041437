"""An audit of what really was sent: saved requests against a gallery of known people."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mixpriv.audit.cohort import read_visits, rescan
from mixpriv.audit.context import linked
from mixpriv.audit.controls import BLIND, NONE
from mixpriv.audit.exchange import identifying_parts
from mixpriv.audit.findings import Finding, finding
from mixpriv.audit.images import embedded
from mixpriv.audit.linkage import Linker
from mixpriv.audit.policy import check_controls
from mixpriv.audit.run import Audit
from mixpriv.audit.simulation import client_key
from mixpriv.audit.wire import find_wires, identifying_fields
from mixpriv.bundle import Bundle
from mixpriv.client.wire_record import read_wire
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.preprocessor import Preprocessor
from mixpriv.protection.keystream import Keystream
from mixpriv.reid.features import Image
from mixpriv.wire.contract import SegmenterContract

_MODE = "as sent"


def audit_wire(folder: Path, gallery: Path, preprocess: Preprocessor, bundle: Bundle) -> tuple[Audit, list[str]]:
    """Link every saved scan to the gallery; whose it is, is what its folder's name begins with, ``sub-NAME_``.

    Raises
    ------
    InputError
        no request, another grid than the bundle's, or no one in the gallery by the name of a folder.
    """
    wires = find_wires(folder)
    visits = read_visits(gallery, preprocess, bundle)
    held = [visit.subject for visit in visits]
    subjects = [wire.name.split("_")[0] for wire in wires]
    unknown = sorted(set(subjects) - set(held))
    if unknown:
        raise InputError(f"{folder}: expected folders named as people of the gallery, sub-NAME_*, got {unknown[0]!r}")
    linker = Linker.of([visit.image for visit in visits], bundle.spacing_mm)
    findings = _controls(linker, [rescan(visit, 0).image for visit in visits], held)
    check_controls(findings)
    first, mean, counts, fields, contract = [], [], [], [], SegmenterContract.of(bundle)
    for wire in wires:
        saved = [exchange.sent for exchange in read_wire(wire)]
        images = [image[0].astype(np.float32) for image in saved]
        if any(image.shape != bundle.grid_shape for image in images):
            raise InputError(f"{wire}: expected images of {bundle.grid_shape}, got {images[0].shape}")
        first.append(images[0])
        mean.append(np.asarray(np.mean(images, axis=0), np.float32))
        counts.append(float(len(images)))
        # what the files say beside the images, and what the same images say to a server when they are sent
        beyond = sum(len(identifying_parts(image, contract)) for image in saved)
        fields.append(float(len(identifying_fields(wire)) + beyond))
    findings += linked("A1", _MODE, linker, held, first, subjects)
    if max(counts) > 1:
        findings += linked("A4", _MODE, linker, held, mean, subjects, suffix=", mean of all requests")
    findings.append(finding("A8", _MODE, "identifying fields", fields, subjects, 0.0))
    about = [
        f"{len(wires)} saved scans, {sum(counts):.0f} requests, bundle {bundle.name} {bundle.version}; a gallery of "
        f"{len(visits)} scans of {len(set(held))} people. none: simulated rescans of the gallery, raw."
    ]
    return Audit(findings, {_MODE: {"what was sent": embedded(first[0])}}), about


def _controls(linker: Linker, rescans: list[Image], held: list[str]) -> list[Finding]:
    """Raw rescans of the gallery, and noise in their place."""
    noise: list[Image] = [
        Keystream(client_key(n).derive("noise")).normal(rescans[0].shape) for n in range(len(rescans))
    ]
    found = [linked("A1", mode.name, linker, held, images, held)
             for mode, images in ((NONE, rescans), (BLIND, noise))]  # fmt: skip
    return [one for findings in found for one in findings]
