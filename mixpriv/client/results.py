"""The files of one result: label map, table and sidecar, and of a DICOM scan the report of its volumes."""

from __future__ import annotations

from pathlib import Path

from mixpriv.client.dicom import encode_dicom
from mixpriv.client.naming import Outputs
from mixpriv.client.segmentation import Segmentation
from mixpriv.client.sidecar import encode_sidecar
from mixpriv.client.table import encode_table
from mixpriv.imaging.volume import encode_as_named
from mixpriv.protection.modes import Mode


def encode_results(result: Segmentation, files: Outputs, scan: Path, mode: Mode) -> dict[Path, bytes]:
    """Make the content of each of `Outputs.all`.

    Raises
    ------
    InputError
        results in DICOM are wanted of a scan that cannot have any.
    """
    if files.in_dicom:
        segmentation, report = encode_dicom(result, mode.name)
        labels = {files.labels: segmentation, files.measurements: report}
    else:
        labels = {files.labels: encode_as_named(files.labels, result.labels, result.scan)}
    return {
        **labels,
        files.table: encode_table(result.volumes),
        files.sidecar: encode_sidecar(scan, result.bundle, mode.name, mode.count),
    }
