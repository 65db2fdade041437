"""DICOM files of a folder: which there are, and their headers, read within limits and without a word to any log."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mixpriv.errors import InputError

MOST_FILES = 50_000
"""In a folder, with all that is below it, of those whose names do not tell another kind."""
MOST_BYTES = 2**31
"""Of one file."""

OWN_SUFFIXES = ("_dseg.dcm", "_dseg_sr.dcm")
"""How our own results in DICOM end; they are no scans."""

_OTHER_SUFFIXES = (".nii", ".gz", ".mgz", ".mgh", ".hdr", ".img", ".json", ".tsv", ".txt", ".png", ".html", ".md")
_DEFLATED = "1.2.840.10008.1.2.1.99"


def is_dicom(path: Path) -> bool:
    """Whether a regular file begins as DICOM files do."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def dicom_scans(folder: Path, leave_out: Callable[[Path], bool] = lambda folder: False) -> list[Path]:
    """The folders of single studies: this one, or of a folder with several the ones below it; none without DICOM.

    Parameters
    ----------
    leave_out : of a folder below this one, whether nothing is looked for in it

    Raises
    ------
    InputError
        pydicom is missing.
    """
    entries = sorted(folder.iterdir())
    if any(may_be_dicom(path) and is_dicom(path) for path in entries):
        return [folder]
    inner = [path for path in entries if path.is_dir() and not leave_out(path)]
    found = [scan for path in inner for scan in dicom_scans(path, leave_out)]
    if len({_study(scan) for scan in found}) > 1:
        return found
    return [folder] if found else []


def _study(folder: Path) -> str:
    """What the first DICOM file of a folder says of its study."""
    header = read_header(next(each_dicom(folder)), ["StudyInstanceUID"])
    return "" if header is None else str(header.get("StudyInstanceUID", ""))


def dicom_files(folder: Path) -> list[Path]:
    """All DICOM files of a folder and those below it, in order.

    Raises
    ------
    InputError
        there are none, or too many.
    """
    found = list(each_dicom(folder))
    if not found:
        raise InputError(f"{folder}: expected a scan or a folder with DICOM files, got a folder without any")
    return found


def each_dicom(folder: Path) -> Iterator[Path]:
    """The same, one by one as they are found; `InputError` once there are too many."""
    return filter(is_dicom, _files(folder))


def may_be_dicom(path: Path) -> bool:
    """Whether a file's name does not tell that it is of another kind, or a result of ours."""
    return not path.name.lower().endswith((*_OTHER_SUFFIXES, *OWN_SUFFIXES))


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(filter(lambda name: may_be_dicom(Path(name)), names)):
            count += 1
            if count > MOST_FILES:
                raise InputError(f"{folder}: expected a folder of at most {MOST_FILES} files, got more")
            yield Path(place, name)


@contextmanager
def quiet() -> Iterator[None]:
    """Neither pydicom nor highdicom may warn: their warnings tell what stands in a header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(path: Path, tags: list[str] | None = None) -> Any:
    """Read a DICOM file up to its pixels, all of it or these attributes; None if that cannot be done.

    Raises
    ------
    InputError
        pydicom is missing.
    """
    pydicom = require_pydicom()
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        meta = pydicom.filereader.read_file_meta_info(path)
        if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:  # which could be made to fill the memory
            return None
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        for name in tags or ("ImagesInAcquisition",):
            header.get(name)  # values are only decoded when they are asked for
        return header
    except Exception:  # a damaged file can make it raise anything
        return None


def require_pydicom() -> Any:
    """Import pydicom, told to be silent; InputError without the extra."""
    try:
        import pydicom
    except ImportError:
        raise InputError("DICOM needs the extra 'dicom': pip install 'mixpriv[dicom]'") from None
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.logger.setLevel("CRITICAL")
    return pydicom
