"""Where the results of one scan go: beside it, or as derivatives of the BIDS dataset that it lies in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mixpriv.errors import InputError
from mixpriv.imaging.dicom.files import is_dicom
from mixpriv.imaging.mgh import MGH_SUFFIXES
from mixpriv.imaging.volume import SUFFIXES, stem, suffix_of

LABEL_SUFFIXES = (*SUFFIXES, *MGH_SUFFIXES)
"""Formats in which a label map can be written."""

DICOM_SUFFIX = ".dcm"

DERIVATIVES = Path("derivatives", "mixpriv")
"""Of a BIDS dataset, where results go if nobody says where."""

DESCRIPTION = "dataset_description.json"
_ENTITY = re.compile(r"[a-z]+-[0-9A-Za-z]+")


@dataclass(frozen=True)
class Outputs:
    """The files of one result: the label map, and what lies beside it under its name.

    ``dataset`` is the BIDS dataset of derivatives that they belong to, whose folders are made.
    """

    labels: Path
    dataset: Path | None = None

    @property
    def table(self) -> Path:
        """Classes and their volumes, tab-separated."""
        return self._beside(".tsv")

    @property
    def measurements(self) -> Path:
        """Of results in DICOM, the report of the volumes."""
        return self._beside("_sr.dcm")

    @property
    def sidecar(self) -> Path:
        """How the label map was made, and what the table's columns mean; JSON."""
        return self._beside(".json")

    @property
    def confidence(self) -> Path:
        """How sure each voxel's label is, %; in the label map's format, of DICOM in NIfTI."""
        own = stem(self.labels).removesuffix("_dseg")
        return self.labels.with_name(f"{own}_confidence{'.nii.gz' if self.in_dicom else suffix_of(self.labels)}")

    def all(self) -> list[Path]:
        """Every file that is written for a scan without being asked for."""
        return [self.labels, *([self.measurements] if self.in_dicom else []), self.table, self.sidecar]

    @property
    def in_dicom(self) -> bool:
        """Whether the label map is a DICOM Segmentation."""
        return suffix_of(self.labels) == DICOM_SUFFIX

    def _beside(self, suffix: str) -> Path:
        return self.labels.with_name(f"{stem(self.labels)}{suffix}")


def outputs_of(scan: Path, output: Path | None = None) -> Outputs:
    """Name the results of a scan, in its own format where that has label maps.

    Parameters
    ----------
    output : the label map, or an existing folder for it; None is beside the scan, or for one inside a BIDS dataset in
        that dataset's ``derivatives/mixpriv``

    Raises
    ------
    InputError
        the output's name tells no format of a label map.

    Examples
    --------
    >>> outputs_of(Path("folder/scan.nii.gz")).labels.as_posix()
    'folder/scan_dseg.nii.gz'
    >>> outputs_of(Path("scan.mgz"), Path("here.nii")).table.as_posix()
    'here.tsv'
    """
    if output is None:
        root = dataset_of(scan)
        if root is not None:
            return derivatives_of(scan, root, root / DERIVATIVES)
        return Outputs(scan.parent / _default_name(scan))  # also of a scan without a name, such as "/"
    if os.path.isdir(output):
        return outputs_in(output, scan)
    if suffix_of(output) not in (*LABEL_SUFFIXES, DICOM_SUFFIX):
        raise InputError(f"{output}: expected an output named .nii, .nii.gz, .mgz or .mgh, or an existing folder")
    if suffix_of(output) == DICOM_SUFFIX and os.path.exists(scan) and not is_dicom_scan(scan):
        raise InputError(f"{output}: expected a DICOM scan for an output in DICOM, or .nii.gz")
    return Outputs(output)


def outputs_in(folder: Path, scan: Path) -> Outputs:
    """Name the results of a scan in a folder."""
    return Outputs(folder / _default_name(scan))


def dataset_of(scan: Path) -> Path | None:
    """Find the BIDS dataset that a scan lies in, as ``sub-*/[ses-*/]*/sub-*_*``; None if there is none."""
    parts = scan.name.split("_")
    if len(parts) < 2 or not parts[0].startswith("sub-") or not all(map(_ENTITY.fullmatch, parts[:-1])):
        return None
    try:
        path = Path(os.path.abspath(scan))
    except OSError as error:
        raise InputError(f"{scan}: the working folder is gone ({error.strerror}); expected a full path") from None
    session = [part for part in parts if part.startswith("ses-")][:1]
    inner = (parts[0], *session)
    root = path.parents[len(inner) + 1] if len(path.parents) > len(inner) + 1 else path.parent
    if path.relative_to(root).parts[: len(inner)] != inner or not (root / DESCRIPTION).is_file():
        return None
    return root


def derivatives_of(scan: Path, root: Path, out: Path) -> Outputs:
    """Name the results of a scan of the BIDS dataset ``root`` in a dataset of derivatives, with all its entities.

    Examples
    --------
    >>> scan = Path("/ds/sub-01/ses-1/anat/sub-01_ses-1_acq-fast_T1w.nii.gz")
    >>> derivatives_of(scan, Path("/ds"), Path("/out")).labels.as_posix()
    '/out/sub-01/ses-1/anat/sub-01_ses-1_acq-fast_dseg.nii.gz'
    """
    folder = Path(os.path.abspath(scan)).parent.relative_to(os.path.abspath(root))
    entities, _, kind = stem(scan).rpartition("_")
    if kind != "T1w" and "_desc-" not in entities:  # of another image of the same session
        entities += f"_desc-{kind}"
    return Outputs(out / folder / f"{entities}_dseg.nii.gz", out)


def is_dicom_scan(scan: Path) -> bool:
    """Whether a scan is to be read as DICOM: a folder, or a file that says so."""
    return os.path.isdir(scan) or suffix_of(scan) == DICOM_SUFFIX or is_dicom(scan)


def _default_name(scan: Path) -> str:
    if is_dicom_scan(scan):
        return f"{stem(scan) or stem(Path(os.path.abspath(scan)))}_dseg{DICOM_SUFFIX}"
    return f"{stem(scan)}_dseg{'.mgz' if suffix_of(scan) in MGH_SUFFIXES else '.nii.gz'}"
